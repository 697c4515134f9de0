#include "base/cpu_topology.h"

#include <hwloc.h>

#include <algorithm>

namespace sheaf {

CpuTopology DetectCpuTopology() {
  CpuTopology result;
  hwloc_topology_t topology;
  if (hwloc_topology_init(&topology) != 0) return result;
  if (hwloc_topology_load(topology) == 0) {
    hwloc_cpuset_t mask = hwloc_bitmap_alloc();
    if (hwloc_get_cpubind(topology, mask, HWLOC_CPUBIND_PROCESS) != 0 ||
        hwloc_bitmap_iszero(mask)) {
      hwloc_bitmap_copy(mask, hwloc_topology_get_allowed_cpuset(topology));
    }
    result.usable_cores =
        std::max(1, hwloc_get_nbobjs_inside_cpuset_by_type(topology, mask, HWLOC_OBJ_CORE));
    result.usable_hardware_threads =
        std::max(1, hwloc_get_nbobjs_inside_cpuset_by_type(topology, mask, HWLOC_OBJ_PU));
    result.numa_nodes = std::max(1, hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_NUMANODE));
    hwloc_bitmap_free(mask);
  }
  hwloc_topology_destroy(topology);
  return result;
}

}  // namespace sheaf
