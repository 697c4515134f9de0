#pragma once
// Which instruction set the CPU kernels run on: chosen once from the machine, or forced.
//
// Every target gives the same bits, so forcing one changes speed only; tests and the --cpu-target
// flag use it.
//
// Threads    Force before the first kernel call or between steps, never beside a running kernel.
// Errors     kInvalidArgument for an unknown name (lists the names), kUnavailable when the machine
//            lacks it.

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace sheaf::kernels {

// Names: "avx2", "avx512", "avx512_vnni", "neon", "neon_dot" (NEON with `sdot`), "scalar"; only
// those that this machine can run, best first.
std::vector<std::string> AvailableCpuTargets();

// "auto" undoes an earlier Force. "scalar" runs the reference implementations (namespace ref).
absl::Status ForceCpuTarget(std::string_view name);

std::string ActiveCpuTarget();

}  // namespace sheaf::kernels
