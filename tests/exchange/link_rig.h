#pragma once
// A worker's listener and a router's connector over one byte mover, both in this process, for tests
// of what every mover promises.

#include <gtest/gtest.h>

#include <cstring>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "exchange/in_process/in_process_links.h"
#include "exchange/link/link_maker.h"
#include "exchange/link/reach_link_maker.h"
#include "exchange/shared_memory/shared_memory_links.h"
#include "exchange/tcp/tcp_links.h"

namespace sheaf {

// For what succeeds; long, because a build beside the test can starve it.
inline constexpr auto kPatience = std::chrono::seconds(60);

inline TimePoint In(Duration duration) { return std::chrono::steady_clock::now() + duration; }

enum class Mover { kInProcess, kSharedMemory, kTcp, kTcpWithoutMac, kReach };

inline std::string NameOf(Mover mover) {
  switch (mover) {
    case Mover::kInProcess:
      return "InProcess";
    case Mover::kSharedMemory:
      return "SharedMemory";
    case Mover::kTcp:
      return "Tcp";
    case Mover::kTcpWithoutMac:
      return "TcpWithoutMac";
    case Mover::kReach:
      return "Reach";
  }
  return "";
}

// Byte bound of one direction of a link.
inline std::unique_ptr<LinkMaker> NewMaker(Mover mover, InProcessNetwork& network,
                                           size_t max_bytes) {
  SharedMemoryOptions memory;
  memory.max_lane_bytes = max_bytes;
  TcpOptions tcp;
  tcp.limits.max_unsent_bytes = tcp.limits.max_unread_bytes = max_bytes;
  switch (mover) {
    case Mover::kInProcess:
      return std::make_unique<InProcessLinkMaker>(network);
    case Mover::kSharedMemory:
      return std::make_unique<SharedMemoryLinkMaker>(memory);
    case Mover::kTcpWithoutMac:
      tcp.integrity = FrameIntegrity::kNone;
      return std::make_unique<TcpLinkMaker>(tcp);
    case Mover::kTcp:
      return std::make_unique<TcpLinkMaker>(tcp);
    case Mover::kReach: {
      std::vector<std::unique_ptr<LinkMaker>> both;
      both.push_back(std::make_unique<SharedMemoryLinkMaker>(memory));
      both.push_back(std::make_unique<TcpLinkMaker>(tcp));
      return std::make_unique<ReachLinkMaker>(std::move(both));
    }
  }
  return nullptr;
}

inline std::unique_ptr<Bell> NewBell() {
  auto bell = Bell::Create();
  EXPECT_TRUE(bell.ok()) << bell.status();
  return *std::move(bell);
}

// The next frame, waited for; nullopt with an empty link at the deadline.
inline absl::StatusOr<std::optional<ArrivedFrame>> WaitNext(FrameLink& link, Bell& bell,
                                                            TimePoint deadline) {
  for (;;) {
    const uint32_t seen = bell.rings();
    auto frame = link.Next();
    if (!frame.ok() || frame->has_value() || std::chrono::steady_clock::now() >= deadline)
      return frame;
    bell.WaitPast(seen, deadline);
  }
}

inline FrameHeader DispatchHeader(uint64_t sequence, size_t bytes) {
  FrameHeader header;
  header.kind = FrameKind::kDispatch;
  header.element = FrameElement::kInt16Groups;
  header.answer = FrameElement::kFloat32;
  header.sequence = sequence;
  header.payload_bytes = bytes;
  return header;
}

// Bytes that tell where a frame was cut or mixed up with another.
inline uint8_t PatternByte(uint64_t sequence, size_t at) {
  return static_cast<uint8_t>(sequence * 31 + at + (at >> 8) * 7 + (at >> 16) * 13);
}

inline absl::Status SendPattern(FrameLink& link, uint64_t sequence, size_t bytes) {
  auto span = link.Reserve(bytes);
  if (!span.ok()) return span.status();
  for (size_t i = 0; i < bytes; ++i) (*span)[i] = PatternByte(sequence, i);
  return link.Send(DispatchHeader(sequence, bytes));
}

inline bool IsPattern(const ArrivedFrame& frame) {
  for (size_t i = 0; i < frame.payload.size(); ++i) {
    if (frame.payload[i] != PatternByte(frame.header.sequence, i)) return false;
  }
  return frame.header.payload_bytes == frame.payload.size();
}

class LinkRig {
 public:
  explicit LinkRig(Mover mover, LinkListenerOptions options = {}, size_t max_bytes = 1u << 30)
      : network_(InProcessOptions{.max_frames = 64, .max_bytes = max_bytes}),
        worker_bell_(NewBell()),
        router_bell_(NewBell()),
        worker_maker_(NewMaker(mover, network_, max_bytes)),
        router_maker_(NewMaker(mover, network_, max_bytes)),
        options_(options) {
    options_.self.model_digest = 77;
    options_.self.instance = InstanceId(5);
    options_.self.secret.fill(9);
    auto listener = worker_maker_->Listen(
        options_, *worker_bell_, [this](std::unique_ptr<FrameLink> link, const Hello& hello) {
          absl::MutexLock lock(&mutex_);
          accepted_.emplace_back(hello, std::move(link));
        });
    EXPECT_TRUE(listener.ok()) << listener.status();
    listener_ = *std::move(listener);
    addresses_ = listener_->addresses();
    connector_ = router_maker_->NewConnector();
  }

  ~LinkRig() { StopListening(); }

  LinkRequest GoodRequest() {
    LinkRequest request;
    request.model_digest = options_.self.model_digest;
    request.worker = options_.self.instance;
    request.router = InstanceId(6);
    request.link = LinkId(++last_link_);
    request.key = LinkKeyFor(options_.self.secret, request.worker, request.router);
    return request;
  }

  absl::StatusOr<std::unique_ptr<FrameLink>> Connect(const LinkRequest& request,
                                                     Duration timeout = kPatience) {
    return connector_->Connect(addresses_, request, *router_bell_, In(timeout));
  }

  // The worker's end of a link that was connected.
  std::unique_ptr<FrameLink> Accepted(LinkId id) {
    std::unique_ptr<FrameLink> found;
    const auto here = [&]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
      for (auto& [hello, link] : accepted_) {
        if (hello.link == id) return true;
      }
      return false;
    };
    absl::MutexLock lock(&mutex_);
    if (!mutex_.AwaitWithTimeout(absl::Condition(&here), absl::Seconds(60))) return nullptr;
    for (auto at = accepted_.begin(); at != accepted_.end(); ++at) {
      if (at->first.link != id) continue;
      found = std::move(at->second);
      accepted_.erase(at);
      break;
    }
    return found;
  }

  struct Pair {
    std::unique_ptr<FrameLink> router;
    std::unique_ptr<FrameLink> worker;
  };
  Pair NewPair() {
    const LinkRequest request = GoodRequest();
    auto router = Connect(request);
    EXPECT_TRUE(router.ok()) << router.status();
    if (!router.ok()) return {};
    return {*std::move(router), Accepted(request.link)};
  }

  void StopListening() { listener_ = nullptr; }

  InProcessNetwork& network() { return network_; }
  Bell& worker_bell() { return *worker_bell_; }
  Bell& router_bell() { return *router_bell_; }
  LinkConnector& connector() { return *connector_; }
  const std::vector<std::string>& addresses() const { return addresses_; }
  const LinkListenerOptions& options() const { return options_; }

 private:
  InProcessNetwork network_;
  std::unique_ptr<Bell> worker_bell_;
  std::unique_ptr<Bell> router_bell_;
  absl::Mutex mutex_;
  std::deque<std::pair<Hello, std::unique_ptr<FrameLink>>> accepted_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<LinkMaker> worker_maker_;
  std::unique_ptr<LinkMaker> router_maker_;
  LinkListenerOptions options_;
  std::unique_ptr<LinkListener> listener_;
  std::unique_ptr<LinkConnector> connector_;
  std::vector<std::string> addresses_;
  uint64_t last_link_ = 100;
};

}  // namespace sheaf
