#pragma once
// Coordinator: the thread that drives a pool's state machine (coordinator/pool_state.h): it takes
// what sessions say, stamped when it arrived, ticks, and sends what comes out.
//
// Threads    all public methods, any thread; none blocks for longer than a plan takes. Observer and
//            peers are called from the coordinator's thread.
// Ownership  borrows clock, observer and metrics (both may be null); they outlive it. Stop() (or
//            the destructor) ends every session; call it before a gRPC server's Shutdown().
// Bounds     sessions, and messages that wait: who sends more is cut off.

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "base/clock.h"
#include "base/log_limit.h"
#include "coordinator/peer.h"
#include "coordinator/pool_state.h"

namespace sheaf {

class CoordinatorMetrics;

struct CoordinatorOptions {
  PoolStateOptions pool;
  Duration tick = std::chrono::milliseconds(50);
  size_t max_sessions = 8192;
  size_t max_waiting = 65536;  // messages
};

// Changes of state. Must not block.
class CoordinatorObserver {
 public:
  virtual ~CoordinatorObserver() = default;
  // It may still be there (kLease): whoever started it should kill it.
  virtual void OnWorkerLost(const LostWorker& /*lost*/) {}
  virtual void OnExpertRefused(const RefusedExpert& /*refused*/) {}
};

class Coordinator {
 public:
  Coordinator(CoordinatorOptions options, const Clock& clock, CoordinatorObserver* observer,
              CoordinatorMetrics* metrics = nullptr);
  ~Coordinator();
  Coordinator(const Coordinator&) = delete;
  Coordinator& operator=(const Coordinator&) = delete;

  // Sessions begin, speak and end. The first message must be hello. Each peer is ended, also one
  // whose session was closed.
  SessionId AttachWorker(std::shared_ptr<WorkerPeer> peer);
  SessionId AttachRouter(std::shared_ptr<RouterPeer> peer);
  void OnWorkerMessage(SessionId session, v1::FromWorker message);
  void OnRouterMessage(SessionId session, v1::FromRouter message);
  void OnClosed(SessionId session);

  // Operators (sheaf.v1.Pool).
  v1::PoolStatus status() const;
  absl::Status Drain(WorkerId worker);
  absl::Status Undrain(WorkerId worker);
  absl::Status SetReplicas(double replicas);
  int64_t Rebalance();

  // Somebody without the token asked for one of these: told and counted.
  void NoteRefusedOperator(const absl::Status& why);

  // Rounds of its thread: grows each tick unless that stands still.
  uint64_t rounds() const { return rounds_.load(std::memory_order_relaxed); }

  const std::string& token() const { return options_.pool.token; }
  void Stop();

 private:
  using PeerPtr = std::variant<std::shared_ptr<WorkerPeer>, std::shared_ptr<RouterPeer>>;
  struct Opened {
    bool router = false;
  };
  struct Gone {};
  struct Incoming {
    SessionId session;
    std::variant<Opened, Gone, v1::FromWorker, v1::FromRouter> what;
    TimePoint received;
  };

  void Run();
  void Push(SessionId session, std::variant<Opened, Gone, v1::FromWorker, v1::FromRouter> what);
  SessionId Attach(PeerPtr peer, bool router);
  void Feed(Incoming& incoming) ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_mutex_);
  // Sends what the state machine wants.
  void Carry(std::vector<PoolAction> actions);
  PeerPtr FindPeer(SessionId session, bool forget);
  static void End(const PeerPtr& peer, const absl::Status& status);

  const CoordinatorOptions options_;
  const Clock& clock_;
  LogLimit strangers_said_;
  CoordinatorObserver* const observer_;
  CoordinatorMetrics* const metrics_;

  mutable absl::Mutex state_mutex_;
  PoolState state_ ABSL_GUARDED_BY(state_mutex_);

  absl::Mutex inbox_mutex_ ABSL_ACQUIRED_AFTER(state_mutex_);
  std::vector<Incoming> inbox_ ABSL_GUARDED_BY(inbox_mutex_);
  std::map<SessionId, PeerPtr> peers_ ABSL_GUARDED_BY(inbox_mutex_);
  uint64_t last_session_ ABSL_GUARDED_BY(inbox_mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(inbox_mutex_) = false;
  std::atomic<uint64_t> rounds_{0};

  std::thread thread_;
};

}  // namespace sheaf
