#pragma once
// The shared memory of one emulated block, full of poison (0xff bytes) and with a fence after it.
//
// Of exactly `bytes` where AddressSanitizer watches, so that it sees the end. Where ThreadSanitizer
// watches fibers, fresh pages, which it does not relate to another block's.

#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "base/check.h"
#include "kernels/cuda/emulation/fiber.h"

namespace sheaf::kernels::cuda::emulation {

class SharedMemory {
 public:
  explicit SharedMemory(size_t bytes) : bytes_(bytes) {
    size_t size = bytes;
#ifndef __SANITIZE_ADDRESS__
    size += kFenceBytes;
#endif
    if (FibersAreWatched()) {
      mapped_ = size;
      void* memory =
          mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      SHEAF_CHECK(memory != MAP_FAILED, "shared memory of a block");
      data_ = static_cast<unsigned char*>(memory);
    } else {
      void* memory = nullptr;
      SHEAF_CHECK(posix_memalign(&memory, 128, size) == 0, "shared memory of a block");
      data_ = static_cast<unsigned char*>(memory);
    }
    std::memset(data_, kPoison, bytes);
    std::memset(data_ + bytes, kFence, size - bytes);
    fence_ = size - bytes;
  }
  ~SharedMemory() {
    if (mapped_ != 0) {
      munmap(data_, mapped_);
    } else {
      std::free(data_);
    }
  }
  unsigned char* data() const { return data_; }
  // Whether nothing was written past the end.
  bool FenceStands() const {
    return std::all_of(data_ + bytes_, data_ + bytes_ + fence_,
                       [](unsigned char byte) { return byte == kFence; });
  }

 private:
  static constexpr unsigned char kPoison = 0xff;
  static constexpr size_t kFenceBytes = 256;
  static constexpr unsigned char kFence = 0xa5;

  size_t bytes_ = 0;
  size_t mapped_ = 0;
  size_t fence_ = 0;
  unsigned char* data_ = nullptr;
};

}  // namespace sheaf::kernels::cuda::emulation
