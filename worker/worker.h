#pragma once
// Worker: an expert worker's life. Joins the router by address, loads the slice it is given, opens
// every epoch it is told of, keeps its lease, and joins again when the session is lost, with its
// slice still in memory.
//
//   control thread (Run)   the session: messages, heartbeats, joining again with back-off
//   compute thread         loading, and the data plane with the kernels (worker/compute_thread.h)
//
// Heartbeats do not depend on the compute thread: a long batch or load does not end the lease.
//
// Threads    Run: one thread. Stop: any thread (not a signal handler).
// Ownership  borrows transport and metrics; they outlive it.
// Errors     Run ends OK after Stop; kFailedPrecondition: the router serves another model or speaks
//            another version; the loader's error; kUnavailable: no router for join_patience.
//            Anything else is retried.

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "base/clock.h"
#include "exchange/model_identity.h"
#include "exchange/transport.h"
#include "worker/slice_loader.h"
#include "worker/worker_metrics.h"

namespace sheaf {

struct WorkerConfig {
  std::string router;  // host:port of the router's gRPC address
  ModelIdentity model;
  std::string instance;  // unique for this process's life
  int64_t pid = 0;
  std::string host;
  std::string metrics_address;  // host:port; empty = none
  std::string version;
  int threads = 1;          // compute threads, >= 1
  int preferred_slot = -1;  // of the first join; later the one held
  Duration first_back_off = std::chrono::milliseconds(100);
  Duration max_back_off = std::chrono::seconds(2);
  Duration join_patience = std::chrono::minutes(10);  // without any session
  Duration leave_patience = std::chrono::seconds(1);  // to be dismissed after Leave
};

class Worker {
 public:
  Worker(WorkerConfig config, SliceLoader loader, Transport& transport, WorkerMetrics& metrics);
  ~Worker();

  absl::Status Run();
  void Stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sheaf
