#pragma once
// BindToNumaNode: the calling thread, and every thread that it starts from then on, runs on the
// cores of one NUMA node and takes memory from there alone.
//
// Memory     strictly (MPOL_BIND): pages come from the node or, when nothing of it is free and
//            nothing can be given back, not at all, and the kernel ends a process. A mere
//            preference would put weights on other nodes as soon as the page cache of the files
//            that they are read from has filled this one. The thread that touches a page first
//            decides, whoever mapped it. Pages that are there already are moved where the system
//            lets it.
// Cores      those of the affinity mask that are of the node.
// Threads    call it before any other thread starts: their masks and policies are their own.
// Errors     kInvalidArgument: no such node; kFailedPrecondition: it may not be used, or the system
//            refuses the binding (a seccomp profile, a kernel without NUMA) on a machine of more
//            than one node. Where the environment tells hwloc of another topology (HWLOC_XMLFILE)
//            memory is not bound, and the text says so.
// Cost       a topology scan (milliseconds).

#include <span>
#include <string>

#include "absl/status/statusor.h"

namespace sheaf {

// What was done, for the log: "on NUMA node 1: 8 of its 16 cores, memory from there alone".
absl::StatusOr<std::string> BindToNumaNode(int number);

// This thread and those that it starts run on these CPUs alone.
// Errors: kInternal, from the system.
absl::Status RunOnCpus(std::span<const int> cpus);

}  // namespace sheaf
