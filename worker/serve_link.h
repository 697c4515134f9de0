#pragma once
// ServeLink: a worker's data-plane loop over one link: receive, run, reply, until the link is
// poisoned (a new epoch aborts it; the router is lost).
//
// Threads    the calling thread receives, computes (with the pool) and replies: a single request's
//            way has no hop between threads. The pool is parked while there is nothing to do.

#include "base/thread_pool.h"
#include "exchange/transport.h"
#include "worker/expert_runner.h"

namespace sheaf {

// One answered dispatch, for the metrics.
struct ServedDispatch {
  int64_t tokens = 0;
  int64_t pairs = 0;
  int64_t received_bytes = 0;
  int64_t sent_bytes = 0;
  Duration busy{0};
  bool ok = false;
};

class ServeObserver {
 public:
  virtual ~ServeObserver() = default;
  virtual void OnServed(const ServedDispatch& served) = 0;
};

// Returns why the link ended, never OK. `observer` may be null.
absl::Status ServeLink(WorkerLink& link, ExpertRunner& runner, ThreadPool& pool,
                       ServeObserver* observer);

}  // namespace sheaf
