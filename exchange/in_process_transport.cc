#include "exchange/in_process_transport.h"

#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status.h"
#include "exchange/byte_buffer.h"
#include "exchange/pending_combines.h"

namespace sheaf {
namespace {

// A layer has one dispatch a worker in flight; more than this is a peer gone wild.
constexpr size_t kMailboxFrames = 1024;

struct Message {
  FrameHeaderBytes header{};
  ByteBuffer payload;
  int32_t lost_worker = -1;  // >= 0: no frame, this worker's end was closed
};

class Mailbox {
 public:
  bool Push(Message message) {
    {
      std::lock_guard lock(mutex_);
      if (closed_ || messages_.size() >= kMailboxFrames) return false;
      messages_.push_back(std::move(message));
    }
    ready_.notify_one();
    return true;
  }

  // OK with a message; Abort's status; kDeadlineExceeded.
  absl::StatusOr<Message> Pop(TimePoint deadline) {
    std::unique_lock lock(mutex_);
    ready_.wait_until(lock, deadline, [&] { return !aborted_.ok() || !messages_.empty(); });
    if (!aborted_.ok()) return aborted_;
    if (messages_.empty()) return absl::DeadlineExceededError("nothing arrived");
    Message message = std::move(messages_.front());
    messages_.pop_front();
    return message;
  }

  void Abort(absl::Status why) {
    {
      std::lock_guard lock(mutex_);
      if (aborted_.ok()) aborted_ = std::move(why);
    }
    ready_.notify_all();
  }

  absl::Status aborted() const {
    std::lock_guard lock(mutex_);
    return aborted_;
  }

  void Close() {
    std::lock_guard lock(mutex_);
    closed_ = true;
    messages_.clear();
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<Message> messages_;  // guarded by mutex_
  absl::Status aborted_;          // guarded by mutex_
  bool closed_ = false;           // guarded by mutex_
};

}  // namespace

struct InProcessTransport::Network {
  std::mutex mutex;
  uint64_t next_address = 1;                            // guarded by mutex
  std::map<std::string, std::weak_ptr<Mailbox>> boxes;  // guarded by mutex
  std::shared_ptr<const Tap> tap;                       // guarded by mutex

  std::string Register(const std::shared_ptr<Mailbox>& box) {
    std::lock_guard lock(mutex);
    std::erase_if(boxes, [](const auto& entry) { return entry.second.expired(); });
    const std::string address = absl::StrCat("inprocess:", next_address++);
    boxes[address] = box;
    return address;
  }

  std::shared_ptr<Mailbox> Find(const std::string& address) {
    std::lock_guard lock(mutex);
    const auto found = boxes.find(address);
    return found == boxes.end() ? nullptr : found->second.lock();
  }

  // False when the receiver is gone or full.
  bool Send(Mailbox& to, const FrameHeader& header, std::span<const uint8_t> payload) {
    std::shared_ptr<const Tap> current;
    {
      std::lock_guard lock(mutex);
      current = tap;
    }
    if (current != nullptr && !(*current)(header)) return true;
    Message message;
    message.header = EncodeFrameHeader(header);
    if (!payload.empty())
      std::memcpy(message.payload.Resize(payload.size()), payload.data(), payload.size());
    return to.Push(std::move(message));
  }
};

namespace {

using Network = InProcessTransport::Network;

class InProcessRouterLink final : public RouterLink {
 public:
  InProcessRouterLink(std::shared_ptr<Network> network, Epoch epoch)
      : network_(std::move(network)),
        epoch_(epoch),
        box_(std::make_shared<Mailbox>()),
        address_(network_->Register(box_)),
        pending_(epoch) {}
  ~InProcessRouterLink() override { Close(); }

  Epoch epoch() const override { return epoch_; }
  const std::string& address() const override { return address_; }

  absl::Status Connect(std::span<const LinkPeer> peers, TimePoint deadline) override {
    for (const LinkPeer& peer : peers) {
      std::shared_ptr<Mailbox> box = network_->Find(peer.address);
      if (box == nullptr) return Lost(peer.worker, "its end of the link is gone");
      peers_[peer.worker] = std::move(box);
    }
    FrameHeader hello;
    hello.epoch = epoch_;
    for (const auto& [worker, box] : peers_) {
      if (!network_->Send(*box, hello, {})) return Lost(worker, "its end of the link is closed");
    }
    std::map<WorkerId, bool> greeted;
    while (greeted.size() < peers_.size()) {
      absl::StatusOr<Message> message = box_->Pop(deadline);
      if (!message.ok()) {
        std::vector<WorkerId> silent;
        for (const auto& [worker, box] : peers_) {
          if (!greeted.contains(worker)) silent.push_back(worker);
        }
        if (!absl::IsDeadlineExceeded(message.status()))
          return Poison({message.status(), {}, true});
        return Poison(
            {absl::DeadlineExceededError(NameWorkers(silent) + " did not answer the hello"), silent,
             false});
      }
      if (message->lost_worker >= 0)
        return Lost(WorkerId(message->lost_worker), "its end of the link was closed");
      const absl::StatusOr<FrameHeader> header = DecodeFrameHeader(message->header);
      if (header.ok() && header->kind == FrameKind::kHelloAck && header->epoch == epoch_) {
        greeted[WorkerId(header->source)] = true;
      }
    }
    return absl::OkStatus();
  }

  absl::Status Post(std::span<const Exchange> exchanges) override {
    if (!fault_.status.ok()) return fault_.status;
    for (const Exchange& exchange : exchanges) {
      if (absl::Status added = pending_.Add(exchange); !added.ok())
        return Poison({added, {}, true});
    }
    for (const Exchange& exchange : exchanges) {
      const auto peer = peers_.find(exchange.worker);
      if (peer == peers_.end()) return Lost(exchange.worker, "not a member of this epoch");
      if (!network_->Send(*peer->second, exchange.dispatch, exchange.payload)) {
        return Lost(exchange.worker, "its end of the link is closed");
      }
    }
    return absl::OkStatus();
  }

  absl::Status Wait(TimePoint deadline) override {
    if (!fault_.status.ok()) return fault_.status;
    const TimePoint start = std::chrono::steady_clock::now();
    while (!pending_.empty()) {
      absl::StatusOr<Message> message = box_->Pop(deadline);
      if (absl::IsDeadlineExceeded(message.status())) {
        return Poison(pending_.Silent(std::chrono::steady_clock::now() - start));
      }
      if (!message.ok()) return Poison({message.status(), {}, true});
      if (message->lost_worker >= 0) {
        return Lost(WorkerId(message->lost_worker), "its end of the link was closed");
      }
      const absl::StatusOr<FrameHeader> header = DecodeFrameHeader(message->header);
      if (!header.ok() ||
          (header->kind != FrameKind::kCombine && header->kind != FrameKind::kError))
        continue;
      PendingCombines::Entry* entry = pending_.Match(*header);
      if (entry == nullptr) continue;
      if (header->kind == FrameKind::kError) {
        const auto text = message->payload.bytes();
        return Poison({absl::InternalError(absl::StrFormat("worker %d: %s", header->source,
                                                           std::string(text.begin(), text.end()))),
                       {WorkerId(header->source)},
                       true});
      }
      std::memcpy(entry->combine.data(), message->payload.data(), entry->combine.size());
      pending_.Complete(*entry);
    }
    pending_.Clear();
    return box_->aborted();
  }

  void Abort(absl::Status why) override { box_->Abort(std::move(why)); }

  void Close() override {
    box_->Close();
    peers_.clear();
    pending_.Clear();
    if (fault_.status.ok()) fault_.status = absl::FailedPreconditionError("the link is closed");
  }

  LinkFault fault() const override { return fault_; }
  std::string PathTo(WorkerId) const override { return "in process"; }

 private:
  absl::Status Poison(LinkFault fault) {
    if (fault_.status.ok()) fault_ = std::move(fault);
    return fault_.status;
  }
  absl::Status Lost(WorkerId worker, const char* why) {
    return Poison(
        {absl::UnavailableError(absl::StrFormat("worker %d lost: %s", worker.value(), why)),
         {worker},
         true});
  }

  const std::shared_ptr<Network> network_;
  const Epoch epoch_;
  const std::shared_ptr<Mailbox> box_;
  const std::string address_;
  std::map<WorkerId, std::shared_ptr<Mailbox>> peers_;
  PendingCombines pending_;
  LinkFault fault_;
};

class InProcessWorkerLink final : public WorkerLink {
 public:
  InProcessWorkerLink(std::shared_ptr<Network> network, Epoch epoch, WorkerId self)
      : network_(std::move(network)),
        epoch_(epoch),
        self_(self),
        box_(std::make_shared<Mailbox>()),
        address_(network_->Register(box_)) {}
  ~InProcessWorkerLink() override { Close(); }

  Epoch epoch() const override { return epoch_; }
  const std::string& address() const override { return address_; }

  absl::Status Connect(const std::string& router_address) override {
    router_ = network_->Find(router_address);
    if (router_ == nullptr)
      return absl::UnavailableError("router lost: its end of the link is gone");
    return absl::OkStatus();
  }

  absl::StatusOr<ReceivedDispatch> Receive(TimePoint deadline) override {
    for (;;) {
      absl::StatusOr<Message> message = box_->Pop(deadline);
      if (!message.ok()) return message.status();
      absl::StatusOr<FrameHeader> header = DecodeFrameHeader(message->header);
      if (!header.ok() || header->epoch != epoch_) continue;
      if (header->kind == FrameKind::kHello) {
        FrameHeader ack = *header;
        ack.kind = FrameKind::kHelloAck;
        ack.source = self_.value();
        SHEAF_RETURN_IF_ERROR(Send(ack, {}));
        continue;
      }
      if (header->kind != FrameKind::kDispatch || header->payload_bytes != message->payload.size())
        continue;
      current_ = std::move(message->payload);
      return ReceivedDispatch{*header, current_.bytes()};
    }
  }

  absl::StatusOr<std::span<uint8_t>> ReplyBuffer(size_t bytes) override {
    reply_.Resize(bytes);
    return reply_.bytes();
  }

  absl::Status Reply(const FrameHeader& header) override { return Send(header, reply_.bytes()); }

  void Abort(absl::Status why) override { box_->Abort(std::move(why)); }

  void Close() override {
    box_->Close();
    if (router_ == nullptr) return;
    Message gone;
    gone.lost_worker = self_.value();
    router_->Push(std::move(gone));
    router_ = nullptr;
  }

 private:
  absl::Status Send(const FrameHeader& header, std::span<const uint8_t> payload) {
    if (router_ == nullptr || !network_->Send(*router_, header, payload)) {
      return absl::UnavailableError("router lost: its end of the link is closed");
    }
    return absl::OkStatus();
  }

  const std::shared_ptr<Network> network_;
  const Epoch epoch_;
  const WorkerId self_;
  const std::shared_ptr<Mailbox> box_;
  const std::string address_;
  std::shared_ptr<Mailbox> router_;
  ByteBuffer current_;
  ByteBuffer reply_;
};

}  // namespace

InProcessTransport::InProcessTransport() : network_(std::make_shared<Network>()) {}
InProcessTransport::~InProcessTransport() = default;

absl::StatusOr<std::unique_ptr<RouterLink>> InProcessTransport::NewRouterLink(Epoch epoch) {
  return std::make_unique<InProcessRouterLink>(network_, epoch);
}

absl::StatusOr<std::unique_ptr<WorkerLink>> InProcessTransport::NewWorkerLink(Epoch epoch,
                                                                              WorkerId self) {
  return std::make_unique<InProcessWorkerLink>(network_, epoch, self);
}

void InProcessTransport::SetTap(Tap tap) {
  std::lock_guard lock(network_->mutex);
  network_->tap = std::make_shared<const Tap>(std::move(tap));
}

}  // namespace sheaf
