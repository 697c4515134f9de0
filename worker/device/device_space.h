#pragma once
// DeviceSpace: which parts of one large block of device memory are taken. First fit; what goes back
// joins its free neighbours, so that equal experts never leave a gap that none fits in.
//
// Why        cudaMalloc and cudaFree wait for the whole device, and would so for each expert that
//            comes or goes.
// Units      bytes from the block's begin; sizes are rounded up to 256.
// Threads    any. Errors: Take: nothing when no gap is large enough.
// Cost       of the number of gaps.

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace sheaf {

class DeviceSpace {
 public:
  explicit DeviceSpace(uint64_t bytes);

  std::optional<uint64_t> Take(uint64_t bytes) ABSL_LOCKS_EXCLUDED(mutex_);
  // What Take gave, with the same size.
  void GiveBack(uint64_t at, uint64_t bytes) ABSL_LOCKS_EXCLUDED(mutex_);

  uint64_t free_bytes() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  mutable absl::Mutex mutex_;
  std::map<uint64_t, uint64_t> gaps_ ABSL_GUARDED_BY(mutex_);  // begin -> bytes
  uint64_t free_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace sheaf
