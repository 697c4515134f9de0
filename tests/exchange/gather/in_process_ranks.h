#pragma once
// InProcessRanks: a group whose ranks are threads of a test.
//
// Copies     each part once, into memory that is kept and grows to the largest part.
// Waits      at most `timeout` for the slowest rank.

#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "exchange/gather/rank_group.h"

namespace sheaf {

class InProcessRanks {
 public:
  InProcessRanks(int num_ranks, absl::Duration timeout);
  ~InProcessRanks();

  // Lives as long as this.
  RankGroup& rank(int index);

 private:
  class End;

  // What all ranks have handed over in one gather. Two of them in turn: nobody can hand over a part
  // of the next but one before everybody has come to the next, and so is done with this one.
  struct Round {
    std::vector<std::vector<uint8_t>> memory;  // by rank
    std::vector<std::span<const uint8_t>> parts;
    std::vector<bool> arrived;
    int num_arrived = 0;
  };

  absl::StatusOr<RankGroup::Parts> Gather(int rank, int64_t number, std::span<const uint8_t> own);
  void Abort(const absl::Status& why);

  const int num_ranks_;
  const absl::Duration timeout_;
  absl::Mutex mutex_;
  Round rounds_[2] ABSL_GUARDED_BY(mutex_);
  absl::Status aborted_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<End>> ends_;
};

}  // namespace sheaf
