#pragma once
// RankGroup: one rank's end of a group of ranks that put together what each has made a part of.
//
// Begin      rank 0's, once before the gathers of a step: gives all others the step's plan. They
//            get it where they wait for one, which is not here.
// Gather     every rank hands over its part and gets all parts, ascending by rank. All ranks make
//            the same calls in the same order: a gather has no name. The parts may have any sizes,
//            zero included.
// Abort      ends the gather under way and the step's later ones, at every rank, with its status:
//            whoever cannot go on says so instead of leaving the others to their deadline. The
//            first one counts.
// Ownership  the others' parts are the group's and stay as they are until this rank's next Gather;
//            its own may be what it handed over.
// Threads    each end belongs to one thread; Abort from any.
// Errors     kUnavailable or kDeadlineExceeded: a rank is gone or did not come in time (names it);
//            then the step is as aborted. Else the status of Abort.

#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/ids.h"

namespace sheaf {

class RankGroup {
 public:
  using Parts = std::span<const std::span<const uint8_t>>;

  virtual ~RankGroup() = default;
  virtual int rank() const = 0;
  virtual int num_ranks() const = 0;
  // `rows`: of the step; it takes the longer the more there are.
  virtual absl::Status Begin(StepId /*step*/, int /*rows*/, std::span<const uint8_t> /*plan*/) {
    return absl::OkStatus();
  }
  virtual absl::StatusOr<Parts> Gather(std::span<const uint8_t> own) = 0;
  virtual void Abort(const absl::Status& why) = 0;
};

}  // namespace sheaf
