#pragma once
// Worker: an expert worker's life. It listens for routers and joins the coordinator at once, loads,
// announces and drops what it is asked to hold while it answers, and when the coordinator is gone
// it goes on answering and joins again with what it holds.
//
//   control thread (Run)  WorkerState: the session with the coordinator
//   compute thread        LinkServer: links to routers, and the kernels
//   lanes                 HoldingLoader: loading, at low priority
//
// None waits for another: a long batch or load ends no lease, a lost coordinator stops no answer.
//
// Threads    Run: one thread, once. Stop, rounds: any thread (not a signal handler).
// Ownership  borrows engine, links and metrics; they outlive it.
// Errors     Run ends OK after Stop. kFailedPrecondition (another checkpoint or version),
//            kUnauthenticated (token), kInvalidArgument: the coordinator refuses it, and the text
//            says what to do. kUnavailable: no coordinator and no router for join_patience. Also
//            what listening says, and why the engine was lost: then it ends at once. Anything else
//            is tried again.

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "base/clock.h"
#include "base/ids.h"
#include "exchange/link/exchange_wait.h"
#include "exchange/link/link_keys.h"
#include "exchange/link/link_maker.h"
#include "exchange/model_identity.h"
#include "network/tls/tls_identity.h"
#include "worker/engine/expert_engine.h"
#include "worker/worker_metrics.h"

namespace sheaf {

struct WorkerConfig {
  std::string coordinator;  // host:port
  std::string token;        // of the pool; empty = none
  std::shared_ptr<TlsIdentity> tls = nullptr;  // towards the coordinator; null = plaintext
  ModelIdentity model;
  InstanceId instance;  // random for this process's life, not 0
  LinkSecret secret{};  // random for this process's life
  int64_t pid = 0;
  std::string host;
  std::string metrics_address;  // host:port; empty = none
  std::string version;
  int threads = 1;        // that compute, >= 1
  ExchangeWait wait;      // for dispatches
  int preferred_id = -1;  // -1 = any
  bool spare = false;
  Duration first_back_off = std::chrono::milliseconds(100);
  Duration max_back_off = std::chrono::seconds(2);
  Duration join_patience = std::chrono::minutes(10);
  Duration leave_patience = std::chrono::seconds(10);  // for others to take over
  Duration seen_patience = std::chrono::seconds(10);   // for routers to see what goes
  Duration silence_floor = std::chrono::seconds(15);   // of a coordinator, before it is given up
};

class Worker {
 public:
  Worker(WorkerConfig config, ExpertEngine& engine, LinkMaker& links, WorkerMetrics& metrics);
  ~Worker();

  absl::Status Run();
  // Leaves in order; called again: at once.
  void Stop();
  // Rounds of the threads that a worker lives by: each grows every few seconds, also while there is
  // nothing to do, unless its thread stands still.
  struct Rounds {
    uint64_t control = 0;
    uint64_t compute = 0;
  };
  Rounds rounds() const;

 private:
  class Life;
  std::unique_ptr<Life> life_;
};

}  // namespace sheaf
