#pragma once
// NcclCommunicator: one rank of a communicator that holds up its caller no longer than was agreed:
// it is non-blocking, and who waits for NCCL here has a deadline, after which it is aborted. NCCL
// itself knows no deadline: a rank that does not come is waited for without end.
//
// The rank's GPU is the one that the calling thread uses when Create is called.
//
// Ownership  the library outlives it. Destroying it aborts it: nothing of it is under way any more
//            when that returns.
// Threads    any, one at a time.
// Errors     Create: kDeadlineExceeded: not all ranks came in time; NcclLibrary::Check's.

#include <memory>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "exchange/nccl/nccl_library.h"

namespace sheaf {

class NcclCommunicator {
 public:
  // Returns once all `ranks` have called it with the same id.
  static absl::StatusOr<std::unique_ptr<NcclCommunicator>> Create(const NcclLibrary& library,
                                                                  int ranks, int rank,
                                                                  const NcclUniqueId& id,
                                                                  Duration timeout);
  ~NcclCommunicator();
  NcclCommunicator(const NcclCommunicator&) = delete;
  NcclCommunicator& operator=(const NcclCommunicator&) = delete;

 private:
  NcclCommunicator(const NcclLibrary& library, NcclCommunicatorHandle handle)
      : library_(library), handle_(handle) {}
  // While what was begun is in progress.
  absl::Status WaitFor(const char* call, TimePoint deadline, Duration timeout) const;

  const NcclLibrary& library_;
  const NcclCommunicatorHandle handle_;
};

}  // namespace sheaf
