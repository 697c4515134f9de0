#pragma once
// DispatchHistory: what each expert worker was asked in the last kSteps forward passes, so that the
// trace of one request can say who worked for the steps that it ran in. A step serves many
// requests at once; a worker's time in it is the step's, not the request's alone.
//
// Threads  any. Add: a lock and a copy, O(workers). Sum: O(steps * workers) under that lock, about
//          50 us for all kSteps of 16 workers.

#include <cstdint>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "base/clock.h"
#include "base/ids.h"

namespace sheaf {

struct WorkerDispatches {
  WorkerId worker;
  int64_t answers = 0;       // dispatches that were answered in time
  int64_t pairs = 0;         // (token, expert) pairs asked for
  double seconds = 0;        // from dispatch to answer, of all of those
  double longest_seconds = 0;
};

class DispatchHistory {
 public:
  static constexpr size_t kSteps = 4096;

  struct Window {
    int steps = 0;
    TimePoint begin, end;                   // of the first and the last of them
    std::vector<WorkerDispatches> workers;  // by ascending id, those that were asked
  };

  // Steps in order. `workers`: by ascending id.
  void Add(TimePoint begin, TimePoint end, const std::vector<WorkerDispatches>& workers);
  // Of the steps whose middle lies in [begin, end), as far as they are remembered.
  Window Sum(TimePoint begin, TimePoint end) const;

 private:
  struct Step {
    TimePoint begin, end;
    std::vector<WorkerDispatches> workers;  // its memory is used again
  };

  mutable absl::Mutex mutex_;
  std::vector<Step> steps_ ABSL_GUARDED_BY(mutex_);  // a ring once it has kSteps
  size_t oldest_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace sheaf
