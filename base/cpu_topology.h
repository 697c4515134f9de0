#pragma once
// What this process may run on: hwloc's view of the cores in its affinity mask.
//
// Threads: any. Cost: a topology scan (milliseconds); call at start, not in a loop.

namespace sheaf {

struct CpuTopology {
  int usable_cores = 1;  // physical cores in the affinity mask, at least 1
  int usable_hardware_threads = 1;
  int numa_nodes = 1;
};

CpuTopology DetectCpuTopology();

}  // namespace sheaf
