#pragma once
// What this process may run on: hwloc's view of the cores in its affinity mask, which NUMA nodes
// they and the memory are of, and how much of their time its control groups leave it. The mask is
// the calling thread's, which the threads that it starts inherit.
//
// Threads: any. Cost: a topology scan (milliseconds); call at start, not in a loop.

#include <cstdint>
#include <limits>
#include <vector>

struct hwloc_topology;
struct hwloc_bitmap_s;

namespace sheaf {

struct CpuTopology {
  int usable_cores = 1;  // physical cores in the affinity mask, at least 1
  int usable_hardware_threads = 1;
  int numa_nodes = 1;
  double cpu_quota = std::numeric_limits<double>::infinity();  // cores; infinity: none

  // Threads that compute, unless told otherwise: a core each, and whole cores of the quota, at
  // least one. A thread more than the quota would not run longer: it would have all of them stopped
  // for the rest of each period. What a quota has beyond whole cores is for the network's threads.
  int default_threads() const;
};

CpuTopology DetectCpuTopology();

// A physical core, and those of its hardware threads that may be used.
struct CpuCore {
  std::vector<int> cpus;  // as the system numbers them
  int numa_node = 0;
};

// The cores of this process's affinity mask, neighbours beside each other (NUMA node, package,
// cache).
std::vector<CpuCore> UsableCpuCores();

// The same of a loaded topology, all of which may be used.
std::vector<CpuCore> CpuCoresOf(hwloc_topology* topology);

// A NUMA node, and what of it this process may use.
struct NumaNode {
  int number = 0;                // as the system and numactl have it
  std::vector<CpuCore> cores;    // that may be used, neighbours beside each other
  int machine_cores = 0;         // that the machine has there; 0: memory alone
  uint64_t memory_bytes = 0;     // that the machine has there; 0: none, or it does not tell
  bool memory_is_allowed = true; // to this process (cpuset.mems)
};

// Of the machine, by number, also those that this process may not use; none where hwloc fails.
std::vector<NumaNode> NumaNodesOfMachine();

// The same of a loaded topology, which may hold what is not allowed, and an affinity mask.
std::vector<NumaNode> NumaNodesOf(hwloc_topology* topology, const hwloc_bitmap_s* mask);

}  // namespace sheaf
