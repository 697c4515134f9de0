#pragma once
// How large a launch is and a device: what kernels/cuda/launch.h and both things under it speak of.

#include <cstddef>

namespace sheaf::kernels::cuda {

struct LaunchShape {
  int blocks = 1;
  int threads = 32;  // a block's, at most 1024
  size_t shared_bytes = 0;
};

struct DeviceSizes {
  int processors = 1;
  size_t block_shared_bytes = 0;  // that a block may have when it asks for it
  size_t processor_shared_bytes =
      0;  // that a processor's blocks have together, each 1 KiB more than it asked for
};

}  // namespace sheaf::kernels::cuda
