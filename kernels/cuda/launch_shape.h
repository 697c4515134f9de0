#pragma once
// How large a launch is: what kernels/cuda/launch.h and both things under it speak of.

#include <cstddef>

namespace sheaf::kernels::cuda {

struct LaunchShape {
  int blocks = 1;
  int threads = 32;  // a block's, at most 1024
  size_t shared_bytes = 0;
};

}  // namespace sheaf::kernels::cuda
