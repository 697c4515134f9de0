#include "base/numa_binding.h"

#include <hwloc.h>
#include <sched.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "absl/strings/str_format.h"
#include "base/cpu_topology.h"
#include "base/numa_placement.h"
#include "base/status.h"

namespace sheaf {
namespace {

enum class Bound { kYes, kNo, kToldTopology };

// The memory of this thread, and of those that it starts. `why` is set where the answer is kNo.
Bound BindMemory(int number, std::string& why) {
  hwloc_topology_t topology;
  if (hwloc_topology_init(&topology) != 0) {
    why = "no memory for a topology";
    return Bound::kNo;
  }
  const hwloc_nodeset_t nodes = hwloc_bitmap_alloc();
  hwloc_bitmap_set(nodes, static_cast<unsigned>(number));
  constexpr int kFlags = HWLOC_MEMBIND_THREAD | HWLOC_MEMBIND_BYNODESET | HWLOC_MEMBIND_STRICT;
  Bound bound = Bound::kYes;
  if (hwloc_topology_load(topology) != 0) {
    why = "the topology cannot be read";
    bound = Bound::kNo;
  } else if (hwloc_topology_is_thissystem(topology) == 0) {
    bound = Bound::kToldTopology;
  } else if (hwloc_set_membind(topology, nodes, HWLOC_MEMBIND_BIND, kFlags) != 0) {
    const bool not_permitted = errno == EPERM;
    why = std::strerror(errno);
    if (not_permitted) why += " (a container's seccomp profile? CAP_SYS_NICE lifts Docker's)";
    bound = Bound::kNo;
  } else {
    // Of what is there already: it is little, and may stay where it is.
    (void)hwloc_set_membind(topology, nodes, HWLOC_MEMBIND_BIND, kFlags | HWLOC_MEMBIND_MIGRATE);
  }
  hwloc_bitmap_free(nodes);
  hwloc_topology_destroy(topology);
  return bound;
}

}  // namespace

absl::StatusOr<std::string> BindToNumaNode(int number) {
  const std::vector<NumaNode> nodes = NumaNodesOfMachine();
  SHEAF_ASSIGN_OR_RETURN(const NumaNode node, UsableNode(nodes, number));
  std::vector<int> cpus;
  for (const CpuCore& core : node.cores)
    cpus.insert(cpus.end(), core.cpus.begin(), core.cpus.end());
  SHEAF_RETURN_IF_ERROR(RunOnCpus(cpus));
  const std::string text = absl::StrFormat("on NUMA node %d: %d of its %d cores", number,
                                           node.cores.size(), node.machine_cores);
  std::string why;
  switch (BindMemory(number, why)) {
    case Bound::kYes:
      return text + ", memory from there alone";
    case Bound::kToldTopology:
      return text + "; memory is not bound, since the environment (HWLOC_XMLFILE, HWLOC_SYNTHETIC) "
                    "and not the system tells what nodes there are";
    case Bound::kNo:
      break;
  }
  if (nodes.size() == 1) {
    return absl::StrFormat("%s; memory is not bound (%s), but there is no other node", text, why);
  }
  return absl::FailedPreconditionError(
      absl::StrFormat("cannot bind memory to NUMA node %d: %s", number, why));
}

absl::Status RunOnCpus(std::span<const int> cpus) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int cpu : cpus) {
    if (cpu < CPU_SETSIZE) CPU_SET(cpu, &set);
  }
  if (sched_setaffinity(0, sizeof(set), &set) == 0) return absl::OkStatus();
  return absl::InternalError(absl::StrFormat("cannot run on %d of the machine's CPUs: %s",
                                             cpus.size(), std::strerror(errno)));
}

}  // namespace sheaf
