#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "exchange/pending_combines.h"
#include "exchange/shared_memory/link_end.h"
#include "exchange/shared_memory/shared_memory_transport.h"

namespace sheaf {
namespace {

class SharedMemoryRouterLink final : public RouterLink {
 public:
  explicit SharedMemoryRouterLink(Epoch epoch) : epoch_(epoch), pending_(epoch) {}
  ~SharedMemoryRouterLink() override { Close(); }

  absl::Status Open() {
    SHEAF_ASSIGN_OR_RETURN(end_, LinkEnd::Create());
    SHEAF_ASSIGN_OR_RETURN(listening_, ListenAt(end_->self().name));
    return absl::OkStatus();
  }

  Epoch epoch() const override { return epoch_; }
  const std::string& address() const override { return end_->address(); }

  absl::Status Connect(std::span<const LinkPeer> peers, TimePoint deadline) override {
    SHEAF_RETURN_IF_ERROR(AwaitHandshakes(peers, deadline));
    std::vector<int> sockets;
    for (const auto& [worker, channel] : channels_) {
      sockets.push_back(channel.socket.get());
      watched_.push_back(worker);
    }
    if (absl::Status started = end_->StartWatch(std::move(sockets)); !started.ok()) {
      return Poison({started, {}, true});
    }
    FrameHeader hello;
    hello.epoch = epoch_;
    for (auto& [worker, channel] : channels_) {
      if (absl::Status sent = channel.Send(hello, {}); !sent.ok()) return Lost(worker, sent);
    }
    const absl::Status greeted = end_->WaitUntil(
        [&]() -> absl::StatusOr<bool> {
          SHEAF_RETURN_IF_ERROR(TakeFrames());
          return greeted_.size() == channels_.size();
        },
        deadline);
    if (absl::IsDeadlineExceeded(greeted)) return Silent(greeted_);
    return greeted.ok() ? greeted : Broken(greeted);
  }

  absl::Status Post(std::span<const Exchange> exchanges) override {
    if (!fault_.status.ok()) return fault_.status;
    for (const Exchange& exchange : exchanges) {
      if (absl::Status added = pending_.Add(exchange); !added.ok()) {
        return Poison({added, {}, true});
      }
    }
    for (const Exchange& exchange : exchanges) {
      const auto channel = channels_.find(exchange.worker);
      if (channel == channels_.end()) {
        return Lost(exchange.worker, absl::UnavailableError("not a member of this epoch"));
      }
      const absl::Status sent = channel->second.Send(exchange.dispatch, exchange.payload);
      if (!sent.ok()) return Lost(exchange.worker, sent);
    }
    return absl::OkStatus();
  }

  absl::Status Wait(TimePoint deadline) override {
    if (!fault_.status.ok()) return fault_.status;
    const TimePoint start = std::chrono::steady_clock::now();
    const absl::Status status = end_->WaitUntil(
        [&]() -> absl::StatusOr<bool> {
          SHEAF_RETURN_IF_ERROR(TakeFrames());
          return pending_.empty();
        },
        deadline);
    if (absl::IsDeadlineExceeded(status)) {
      return Poison(pending_.Silent(std::chrono::steady_clock::now() - start));
    }
    if (!status.ok()) return Broken(status);
    pending_.Clear();
    return absl::OkStatus();
  }

  void Abort(absl::Status why) override { end_->Abort(std::move(why)); }

  void Close() override {
    if (end_ != nullptr) end_->StopWatch();
    channels_.clear();
    listening_.reset();
    pending_.Clear();
    if (fault_.status.ok()) fault_.status = absl::FailedPreconditionError("the link is closed");
  }

  LinkFault fault() const override { return fault_; }
  std::string PathTo(WorkerId worker) const override {
    return channels_.contains(worker) ? "shared memory" : "";
  }

 private:
  // Every peer connects by itself; who does not prove itself with its address's name is a stranger.
  absl::Status AwaitHandshakes(std::span<const LinkPeer> peers, TimePoint deadline) {
    std::map<std::string, WorkerId> expected;  // by name
    for (const LinkPeer& peer : peers) {
      const absl::StatusOr<SharedMemoryAddress> at = SharedMemoryAddress::Parse(peer.address);
      if (!at.ok()) return Lost(peer.worker, at.status());
      if (at->host != end_->self().host || at->host.empty()) {
        return Lost(peer.worker, absl::UnavailableError(absl::StrFormat(
                                     "it is on host %s, the router on %s: shared memory does not "
                                     "reach it",
                                     at->host, end_->self().host)));
      }
      expected[at->name] = peer.worker;
      absent_.insert(peer.worker);
    }
    std::vector<UniqueFd> strangers;
    while (!absent_.empty()) {
      std::vector<int> sockets{listening_.get()};
      for (const UniqueFd& stranger : strangers) sockets.push_back(stranger.get());
      const absl::Status readable = end_->WaitReadable(sockets, deadline);
      if (absl::IsDeadlineExceeded(readable)) {
        std::set<WorkerId> present;
        for (const auto& [worker, channel] : channels_) present.insert(worker);
        return Silent(present);
      }
      if (!readable.ok()) return Poison({readable, {}, true});
      absl::StatusOr<std::optional<UniqueFd>> accepted = AcceptFrom(listening_.get());
      if (!accepted.ok()) return Poison({accepted.status(), {}, true});
      if (accepted->has_value()) strangers.push_back(std::move(**accepted));
      for (UniqueFd& stranger : strangers) SHEAF_RETURN_IF_ERROR(Greet(stranger, expected));
      std::erase_if(strangers, [](const UniqueFd& socket) { return !socket.valid(); });
    }
    return absl::OkStatus();
  }

  // Takes the socket, closes it, or leaves it for later.
  absl::Status Greet(UniqueFd& socket, const std::map<std::string, WorkerId>& expected) {
    absl::StatusOr<std::optional<Handshake>> handshake = ReceiveHandshake(socket.get());
    if (handshake.ok() && !handshake->has_value()) return absl::OkStatus();
    const auto known = handshake.ok() ? expected.find((*handshake)->name) : expected.end();
    if (known == expected.end() || (*handshake)->epoch != epoch_ ||
        (*handshake)->worker != known->second || !absent_.contains(known->second)) {
      socket.reset();
      return absl::OkStatus();
    }
    const WorkerId worker = known->second;
    absl::StatusOr<LaneWriter> lane = LaneWriter::Create();
    if (!lane.ok()) return Poison({lane.status(), {}, true});
    const absl::Status sent = SendHandshake(
        socket.get(), {epoch_, worker, end_->self().name, {}, {}}, lane->fd(), end_->doorbell_fd());
    if (!sent.ok()) return Lost(worker, sent);
    absl::StatusOr<Channel> channel =
        Channel::Open(std::move(socket), *std::move(lane), **std::move(handshake));
    if (!channel.ok()) return Lost(worker, channel.status());
    channels_.emplace(worker, *std::move(channel));
    absent_.erase(worker);
    return absl::OkStatus();
  }

  absl::Status TakeFrames() {
    for (auto& [worker, channel] : channels_) {
      bool took = false;
      while (channel.in.HasFrame()) {
        const absl::StatusOr<LaneFrame> frame = channel.in.Next();
        if (!frame.ok()) return Lost(worker, frame.status());
        SHEAF_RETURN_IF_ERROR(Take(worker, *frame));
        took = true;
      }
      if (took) channel.out.SetReleased(channel.in.consumed());
    }
    return absl::OkStatus();
  }

  // What belongs to nothing is dropped.
  absl::Status Take(WorkerId worker, const LaneFrame& frame) {
    const absl::StatusOr<FrameHeader> header = DecodeFrameHeader(frame.header);
    if (!header.ok() || header->epoch != epoch_ || header->source != worker.value() ||
        header->payload_bytes != frame.payload.size()) {
      return absl::OkStatus();
    }
    if (header->kind == FrameKind::kHelloAck) greeted_.insert(worker);
    if (header->kind != FrameKind::kCombine && header->kind != FrameKind::kError) {
      return absl::OkStatus();
    }
    PendingCombines::Entry* entry = pending_.Match(*header);
    if (entry == nullptr) return absl::OkStatus();
    if (header->kind == FrameKind::kError) {
      const std::string text(frame.payload.begin(), frame.payload.end());
      return Poison({absl::InternalError(absl::StrFormat("worker %d: %s", worker.value(), text)),
                     {worker},
                     true});
    }
    std::copy(frame.payload.begin(), frame.payload.end(), entry->combine.begin());
    pending_.Complete(*entry);
    return absl::OkStatus();
  }

  absl::Status Poison(LinkFault fault) {
    if (fault_.status.ok()) fault_ = std::move(fault);
    return fault_.status;
  }
  absl::Status Lost(WorkerId worker, const absl::Status& why) {
    return Poison({absl::UnavailableError(absl::StrFormat("worker %d lost: %s", worker.value(),
                                                          std::string(why.message()))),
                   {worker},
                   true});
  }
  // Of WaitUntil: some peers' sockets broke, or what stands in the status already.
  absl::Status Broken(const absl::Status& status) {
    LinkFault fault{status, {}, true};
    for (const size_t index : end_->Broken()) fault.suspects.push_back(watched_[index]);
    std::sort(fault.suspects.begin(), fault.suspects.end());
    if (!fault.suspects.empty() && end_->aborted().ok()) {
      fault.status = absl::UnavailableError(absl::StrFormat(
          "%s lost: %s", NameWorkers(fault.suspects), std::string(status.message())));
    }
    return Poison(std::move(fault));
  }
  absl::Status Silent(const std::set<WorkerId>& heard) {
    LinkFault fault;
    for (const WorkerId worker : absent_) fault.suspects.push_back(worker);
    for (const auto& [worker, channel] : channels_) {
      if (!heard.contains(worker)) fault.suspects.push_back(worker);
    }
    std::sort(fault.suspects.begin(), fault.suspects.end());
    fault.status =
        absl::DeadlineExceededError(NameWorkers(fault.suspects) + " did not answer the hello");
    return Poison(std::move(fault));
  }

  const Epoch epoch_;
  std::unique_ptr<LinkEnd> end_;
  UniqueFd listening_;
  std::map<WorkerId, Channel> channels_;
  std::set<WorkerId> absent_;      // has not shaken hands
  std::vector<WorkerId> watched_;  // by the watch's index
  std::set<WorkerId> greeted_;     // has answered the hello
  PendingCombines pending_;
  LinkFault fault_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<RouterLink>> SharedMemoryTransport::NewRouterLink(Epoch epoch) {
  auto link = std::make_unique<SharedMemoryRouterLink>(epoch);
  SHEAF_RETURN_IF_ERROR(link->Open());
  return link;
}

}  // namespace sheaf
