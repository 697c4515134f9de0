#pragma once
// RankGroup: one rank's end of a group of ranks that put together what each has made a part of.
//
// Gather     every rank hands over its part and gets all parts, ascending by rank. All ranks make the same
//            calls in the same order: a gather has no name. The parts may have any sizes, zero included.
// Abort      ends the gather under way and all later ones, at every rank, with its status: whoever cannot go
//            on says so instead of leaving the others to their deadline. The first one counts.
// Ownership  the parts are the group's and stay as they are until this rank's next Gather.
// Threads    each end belongs to one thread; Abort from any.
// Errors     kDeadlineExceeded: a rank did not come in time (names the ranks); then the group is as aborted.
//            Else the status of Abort.

#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sheaf {

class RankGroup {
 public:
  using Parts = std::span<const std::span<const uint8_t>>;

  virtual ~RankGroup() = default;
  virtual int rank() const = 0;
  virtual int num_ranks() const = 0;
  virtual absl::StatusOr<Parts> Gather(std::span<const uint8_t> own) = 0;
  virtual void Abort(const absl::Status& why) = 0;
};

}  // namespace sheaf
