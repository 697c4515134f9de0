#pragma once
// Of a process that is told its NUMA node (--numa-node): going there, and the memory that it finds.
//
// Threads    GoToNumaNode: main's, before any other thread starts (masks and policies are
//            inherited).
// Errors     as base/numa_binding.h, naming the flag.

#include <string>

#include "absl/status/statusor.h"
#include "base/memory_limits.h"
#include "cli/options/process_options.h"

namespace sheaf {

// What was done, for the log when there is one; empty: no node is told, nothing is done.
absl::StatusOr<std::string> GoToNumaNode(const ProcessOptions& options);

// Of a process that takes memory from this node alone, within the limits of the whole machine.
MemoryLimits LimitsOnNode(const MemoryLimits& machine, int node);

}  // namespace sheaf
