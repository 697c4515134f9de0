#include "exchange/in_process/in_process_links.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <deque>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/check.h"
#include "base/status.h"
#include "base/byte_buffer.h"

namespace sheaf {

namespace {

struct MailedFrame {
  FrameHeaderBytes header{};
  ByteBuffer payload;
};

}  // namespace

// Ends are 0 (the router) and 1 (the worker); way[i] leads to end i.
class InProcessPipe {
 public:
  InProcessPipe(LinkId id, const InProcessOptions& options, Bell& router, Bell& worker)
      : id_(id), options_(options) {
    absl::MutexLock lock(&mutex_);
    ways_[0].bell = &router;
    ways_[1].bell = &worker;
  }

  LinkId id() const { return id_; }

  absl::Status MaySend(int to, size_t bytes) {
    absl::MutexLock lock(&mutex_);
    if (broken_) return Broken();
    const Way& way = ways_[to];
    if (way.frames < options_.max_frames && bytes <= options_.max_bytes - way.bytes)
      return absl::OkStatus();
    return absl::ResourceExhaustedError(absl::StrFormat(
        "in-process link: %d frames, %d bytes are under way: no room for %d bytes", way.frames,
        way.bytes, bytes));
  }

  absl::Status Deliver(int to, const FrameHeaderBytes& header, ByteBuffer payload) {
    absl::MutexLock lock(&mutex_);
    if (broken_) return Broken();
    Way& way = ways_[to];
    ++way.frames;
    way.bytes += payload.size();
    way.queue.push_back({header, std::move(payload)});
    if (way.bell != nullptr) way.bell->Ring();
    return absl::OkStatus();
  }

  absl::StatusOr<std::optional<MailedFrame>> Take(int self) {
    absl::MutexLock lock(&mutex_);
    Way& way = ways_[self];
    if (way.queue.empty()) {
      if (broken_) return Broken();
      return std::optional<MailedFrame>();
    }
    MailedFrame frame = std::move(way.queue.front());
    way.queue.pop_front();
    return std::optional<MailedFrame>(std::move(frame));
  }

  void Release(int self, size_t frames, size_t bytes) {
    absl::MutexLock lock(&mutex_);
    ways_[self].frames -= frames;
    ways_[self].bytes -= bytes;
  }

  void Break() {
    absl::MutexLock lock(&mutex_);
    BreakLocked();
  }

  // That end is destroyed; its bell may go.
  void CloseEnd(int end) {
    absl::MutexLock lock(&mutex_);
    ways_[end].bell = nullptr;
    BreakLocked();
  }

  bool broken() {
    absl::MutexLock lock(&mutex_);
    return broken_;
  }

 private:
  struct Way {
    std::deque<MailedFrame> queue;
    size_t frames = 0;  // not released
    size_t bytes = 0;
    Bell* bell = nullptr;
  };

  static absl::Status Broken() {
    return absl::UnavailableError("in-process link: the peer is gone");
  }

  void BreakLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    broken_ = true;
    for (Way& way : ways_) {
      if (way.bell != nullptr) way.bell->Ring();
    }
  }

  const LinkId id_;
  const InProcessOptions options_;
  absl::Mutex mutex_;
  Way ways_[2] ABSL_GUARDED_BY(mutex_);
  bool broken_ ABSL_GUARDED_BY(mutex_) = false;
};

class InProcessLink final : public FrameLink {
 public:
  // `live` counts the links of a listener: a worker's end only.
  InProcessLink(InProcessNetwork& network, std::shared_ptr<InProcessPipe> pipe, int self,
                std::shared_ptr<std::atomic<int>> live)
      : network_(network), pipe_(std::move(pipe)), self_(self), live_(std::move(live)) {}
  ~InProcessLink() override {
    pipe_->CloseEnd(self_);
    if (live_ != nullptr) live_->fetch_sub(1);
  }

  absl::StatusOr<std::span<uint8_t>> Reserve(size_t bytes) override {
    SHEAF_RETURN_IF_ERROR(broken_);
    SHEAF_RETURN_IF_ERROR(Remember(pipe_->MaySend(1 - self_, bytes)));
    reserved_.Resize(bytes);
    return reserved_.bytes();
  }

  absl::Status Send(FrameHeader header) override {
    SHEAF_RETURN_IF_ERROR(broken_);
    SHEAF_CHECK(header.payload_bytes <= reserved_.size(), "a frame is reserved before it is sent");
    SHEAF_RETURN_IF_ERROR(Remember(pipe_->MaySend(1 - self_, header.payload_bytes)));
    header.link = pipe_->id();
    ByteBuffer payload = std::move(reserved_);
    reserved_ = ByteBuffer();
    payload.Resize(header.payload_bytes);
    FrameHeaderBytes bytes = EncodeFrameHeader(header);
    if (const auto tap = network_.tap(); tap != nullptr && *tap) {
      PassingFrame passing{pipe_->id(), self_ == 0, bytes, payload.bytes()};
      const TapVerdict verdict = (*tap)(passing);
      if (verdict == TapVerdict::kDrop) return absl::OkStatus();
      if (verdict == TapVerdict::kHold) {
        network_.Hold(pipe_, self_ == 0, bytes, {payload.bytes().begin(), payload.bytes().end()});
        return absl::OkStatus();
      }
    }
    return Remember(pipe_->Deliver(1 - self_, bytes, std::move(payload)));
  }

  absl::StatusOr<std::optional<ArrivedFrame>> Next() override {
    for (;;) {
      SHEAF_RETURN_IF_ERROR(broken_);
      absl::StatusOr<std::optional<MailedFrame>> mailed = pipe_->Take(self_);
      if (!mailed.ok()) return Remember(mailed.status());
      if (!mailed->has_value()) return std::optional<ArrivedFrame>();
      arrived_bytes_ += (*mailed)->payload.size();
      arrived_.push_back(std::move((*mailed)->payload));
      const absl::StatusOr<FrameHeader> header = DecodeFrameHeader((*mailed)->header);
      if (!header.ok()) return Break(header.status());
      if (header->link != pipe_->id()) continue;  // of another life: void
      if (header->payload_bytes != arrived_.back().size()) {
        return Break(absl::InvalidArgumentError(
            absl::StrFormat("%s: wanted %d bytes of payload, got %d", Describe(*header),
                            header->payload_bytes, arrived_.back().size())));
      }
      return std::optional<ArrivedFrame>({*header, arrived_.back().bytes()});
    }
  }

  void Release() override {
    if (arrived_.empty()) return;
    pipe_->Release(self_, arrived_.size(), arrived_bytes_);
    arrived_.clear();
    arrived_bytes_ = 0;
  }

  LinkId id() const override { return pipe_->id(); }
  std::string path() const override { return "in process"; }

 private:
  absl::Status Remember(absl::Status status) {
    if (!status.ok() && !absl::IsResourceExhausted(status)) broken_ = status;
    return status;
  }
  absl::Status Break(absl::Status why) {
    pipe_->Break();
    return Remember(std::move(why));
  }

  InProcessNetwork& network_;
  const std::shared_ptr<InProcessPipe> pipe_;
  const int self_;
  const std::shared_ptr<std::atomic<int>> live_;
  absl::Status broken_;
  ByteBuffer reserved_;
  std::deque<ByteBuffer> arrived_;
  size_t arrived_bytes_ = 0;
};

// What a connector finds at an address.
class InProcessListening {
 public:
  InProcessListening(LinkListenerOptions options, Bell& bell, OnLink on_link)
      : options_(std::move(options)),
        bell_(bell),
        on_link_(std::move(on_link)),
        live_(options_.live_links != nullptr ? options_.live_links
                                             : std::make_shared<std::atomic<int>>(0)) {}

  void Stop() {
    absl::MutexLock lock(&mutex_);
    stopped_ = true;
  }
  void SetReachable(bool reachable) {
    absl::MutexLock lock(&mutex_);
    reachable_ = reachable;
  }

  // Gives the worker's end to on_link; nullptr without a status: nobody there.
  absl::StatusOr<std::shared_ptr<InProcessPipe>> Greet(InProcessNetwork& network,
                                                       const InProcessOptions& options,
                                                       const LinkRequest& request,
                                                       Bell& router_bell) {
    absl::MutexLock lock(&mutex_);
    if (stopped_ || !reachable_) return std::shared_ptr<InProcessPipe>();
    RouterHandshake router(request, FrameIntegrity::kNone, FreshNonce());
    WorkerHandshake worker(options_.self, FrameIntegrity::kNone, FreshNonce());
    SHEAF_ASSIGN_OR_RETURN(HelloVerdict verdict, worker.TakeHello(router.hello()));
    SHEAF_ASSIGN_OR_RETURN(const HelloProofBytes proof, router.Prove(worker.Answer(verdict)));
    SHEAF_ASSIGN_OR_RETURN(verdict, worker.TakeProof(proof));
    if (verdict == HelloVerdict::kWelcome && live_->load() >= options_.max_links)
      verdict = HelloVerdict::kBusy;
    SHEAF_RETURN_IF_ERROR(router.Finish(worker.Answer(verdict)).status());
    auto pipe = std::make_shared<InProcessPipe>(request.link, options, router_bell, bell_);
    live_->fetch_add(1);
    on_link_(std::make_unique<InProcessLink>(network, pipe, 1, live_), worker.hello());
    return pipe;
  }

 private:
  const LinkListenerOptions options_;
  Bell& bell_;
  const OnLink on_link_;
  const std::shared_ptr<std::atomic<int>> live_;
  absl::Mutex mutex_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  bool reachable_ ABSL_GUARDED_BY(mutex_) = true;
};

class InProcessListener final : public LinkListener {
 public:
  InProcessListener(InProcessNetwork& network, std::string address,
                    std::shared_ptr<InProcessListening> listening)
      : network_(network), address_(std::move(address)), listening_(std::move(listening)) {}
  ~InProcessListener() override {
    {
      absl::MutexLock lock(&network_.mutex_);
      network_.listening_.erase(address_);
    }
    listening_->Stop();
  }
  std::vector<std::string> addresses() const override { return {address_}; }

 private:
  InProcessNetwork& network_;
  const std::string address_;
  const std::shared_ptr<InProcessListening> listening_;
};

class InProcessConnector final : public LinkConnector {
 public:
  explicit InProcessConnector(InProcessNetwork& network) : network_(network) {}

  absl::StatusOr<std::unique_ptr<FrameLink>> Connect(const std::vector<std::string>& addresses,
                                                     const LinkRequest& request, Bell& bell,
                                                     TimePoint /*deadline*/) override {
    bool known_kind = false;
    for (const std::string& address : addresses) {
      if (!Reaches(address)) continue;
      known_kind = true;
      std::shared_ptr<InProcessListening> listening;
      {
        absl::MutexLock lock(&network_.mutex_);
        const auto at = network_.listening_.find(address);
        if (at != network_.listening_.end()) listening = at->second;
      }
      if (listening == nullptr) continue;
      SHEAF_ASSIGN_OR_RETURN(auto pipe,
                             listening->Greet(network_, network_.options_, request, bell));
      if (pipe == nullptr) continue;
      {
        absl::MutexLock lock(&network_.mutex_);
        std::erase_if(network_.pipes_, [](const auto& old) { return old.expired(); });
        network_.pipes_.push_back(pipe);
      }
      return std::make_unique<InProcessLink>(network_, std::move(pipe), 0, nullptr);
    }
    if (!known_kind) return NothingInCommon(reach(), addresses);
    return absl::UnavailableError(
        absl::StrFormat("nobody listens at %s", absl::StrJoin(addresses, ", ")));
  }

  bool Reaches(const std::string& address) const override { return address.rfind("mem:", 0) == 0; }
  std::string reach() const override { return "mem"; }

 private:
  InProcessNetwork& network_;
};

void InProcessNetwork::SetTap(FrameTap tap) {
  absl::MutexLock lock(&mutex_);
  tap_ = std::make_shared<const FrameTap>(std::move(tap));
}

std::shared_ptr<const FrameTap> InProcessNetwork::tap() {
  absl::MutexLock lock(&mutex_);
  return tap_;
}

void InProcessNetwork::Hold(const std::shared_ptr<InProcessPipe>& pipe, bool to_worker,
                            const FrameHeaderBytes& header, std::vector<uint8_t> payload) {
  absl::MutexLock lock(&mutex_);
  held_.push_back({pipe, to_worker, header, std::move(payload)});
}

void InProcessNetwork::DeliverHeld() {
  std::vector<Held> held;
  {
    absl::MutexLock lock(&mutex_);
    held.swap(held_);
  }
  for (const Held& frame : held) {
    const auto pipe = frame.pipe.lock();
    if (pipe == nullptr) continue;
    ByteBuffer payload;
    payload.Resize(frame.payload.size());
    std::copy(frame.payload.begin(), frame.payload.end(), payload.data());
    // A link that broke meanwhile loses what was under way.
    pipe->Deliver(frame.to_worker ? 1 : 0, frame.header, std::move(payload)).IgnoreError();
  }
}

void InProcessNetwork::Cut(LinkId link) {
  std::shared_ptr<InProcessPipe> found;
  {
    absl::MutexLock lock(&mutex_);
    for (const auto& weak : pipes_) {
      if (auto pipe = weak.lock(); pipe != nullptr && pipe->id() == link) found = std::move(pipe);
    }
  }
  if (found != nullptr) found->Break();
}

void InProcessNetwork::SetReachable(const std::string& address, bool reachable) {
  std::shared_ptr<InProcessListening> listening;
  {
    absl::MutexLock lock(&mutex_);
    const auto at = listening_.find(address);
    if (at != listening_.end()) listening = at->second;
  }
  if (listening != nullptr) listening->SetReachable(reachable);
}

std::vector<LinkId> InProcessNetwork::links() {
  absl::MutexLock lock(&mutex_);
  std::vector<LinkId> live;
  for (const auto& weak : pipes_) {
    if (const auto pipe = weak.lock(); pipe != nullptr && !pipe->broken())
      live.push_back(pipe->id());
  }
  return live;
}

absl::StatusOr<std::unique_ptr<LinkListener>> InProcessLinkMaker::Listen(
    const LinkListenerOptions& options, Bell& bell, OnLink on_link) {
  auto listening = std::make_shared<InProcessListening>(options, bell, std::move(on_link));
  absl::MutexLock lock(&network_.mutex_);
  const std::string address = absl::StrFormat("mem:%d", ++network_.last_address_);
  network_.listening_[address] = listening;
  return std::make_unique<InProcessListener>(network_, address, std::move(listening));
}

std::unique_ptr<LinkConnector> InProcessLinkMaker::NewConnector() {
  return std::make_unique<InProcessConnector>(network_);
}

}  // namespace sheaf
