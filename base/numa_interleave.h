#pragma once
// Memory that threads of several NUMA nodes read: its pages go to the nodes in turn, so that every
// node's memory is read at once, whoever touched a page first. What is read by all threads in no
// fixed order (weights, the KV cache) would else lie where the threads that filled it ran, or on
// one node where one thread filled it.
//
// A process that is told its node (base/numa_binding.h), that runs on one node's cores, or that
// was started with a policy of memory of its own (numactl) is left alone.
//
// Threads    any, before the pages are touched. The nodes are looked up by the first call.
// Errors     none: advice. A system that refuses (a seccomp profile) costs speed alone.
// Cost       one system call; the first one scans the topology (milliseconds).

#include <cstddef>
#include <span>
#include <vector>

#include "base/cpu_topology.h"

namespace sheaf {

// `data`: the beginning of a page.
void InterleaveOverOwnNodes(void* data, size_t bytes);

// Nodes whose cores and memory this process may use, ascending; pure.
std::vector<int> NodesToInterleave(std::span<const NumaNode> nodes);

// False: refused.
bool InterleavePages(void* data, size_t bytes, std::span<const int> nodes);

}  // namespace sheaf
