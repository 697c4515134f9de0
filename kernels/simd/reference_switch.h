#pragma once
// Whether dispatching kernels must run their reference implementation: the target "scalar" is
// forced, or the machine lacks every instruction set that Highway code was compiled for. Internal
// to kernels/*_cpu.cc.
//
// Cost       one relaxed load. Threads as kernels/simd/cpu_target.h.

#include <atomic>

namespace sheaf::kernels::internal {

enum class ReferenceMode : int { kUnknown, kSimd, kReference };

extern constinit std::atomic<ReferenceMode> reference_mode;

// Looks at the machine once; stores and returns the mode.
ReferenceMode DetectReferenceMode();

inline bool UseReference() {
  ReferenceMode mode = reference_mode.load(std::memory_order_relaxed);
  if (mode == ReferenceMode::kUnknown) [[unlikely]]
    mode = DetectReferenceMode();
  return mode == ReferenceMode::kReference;
}

}  // namespace sheaf::kernels::internal
