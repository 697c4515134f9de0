#include "base/cpu_topology.h"

#include <hwloc.h>

#include <algorithm>

#include "base/cgroup.h"

namespace sheaf {
namespace {

// A topology with the process's mask; both empty where hwloc fails.
class OwnTopology {
 public:
  explicit OwnTopology(unsigned long flags = 0) : mask_(hwloc_bitmap_alloc()) {
    if (hwloc_topology_init(&topology_) != 0) {
      topology_ = nullptr;
      return;
    }
    hwloc_topology_set_flags(topology_, flags);
    is_loaded_ = hwloc_topology_load(topology_) == 0;
    if (!is_loaded_) return;
    if (hwloc_get_cpubind(topology_, mask_, HWLOC_CPUBIND_THREAD) != 0 ||
        hwloc_bitmap_iszero(mask_)) {
      hwloc_bitmap_copy(mask_, hwloc_topology_get_allowed_cpuset(topology_));
    }
  }
  ~OwnTopology() {
    hwloc_bitmap_free(mask_);
    if (topology_ != nullptr) hwloc_topology_destroy(topology_);
  }
  OwnTopology(const OwnTopology&) = delete;
  OwnTopology& operator=(const OwnTopology&) = delete;

  bool is_loaded() const { return is_loaded_; }
  hwloc_topology_t get() const { return topology_; }
  hwloc_const_cpuset_t mask() const { return mask_; }

 private:
  hwloc_cpuset_t mask_;
  hwloc_topology_t topology_ = nullptr;
  bool is_loaded_ = false;
};

// Cores with at least one hardware thread in the mask. A system that does not tell of cores: its
// hardware threads.
std::vector<CpuCore> CoresIn(hwloc_topology_t topology, hwloc_const_cpuset_t mask) {
  std::vector<CpuCore> cores;
  const hwloc_obj_type_t type =
      hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_CORE) > 0 ? HWLOC_OBJ_CORE : HWLOC_OBJ_PU;
  const int count = hwloc_get_nbobjs_by_type(topology, type);
  for (int i = 0; i < count; ++i) {
    const hwloc_obj_t object = hwloc_get_obj_by_type(topology, type, static_cast<unsigned>(i));
    CpuCore core;
    for (int cpu = hwloc_bitmap_first(object->cpuset); cpu >= 0;
         cpu = hwloc_bitmap_next(object->cpuset, cpu)) {
      if (hwloc_bitmap_isset(mask, static_cast<unsigned>(cpu)) != 0) core.cpus.push_back(cpu);
    }
    if (core.cpus.empty()) continue;
    const int node = object->nodeset == nullptr ? -1 : hwloc_bitmap_first(object->nodeset);
    core.numa_node = std::max(0, node);
    cores.push_back(std::move(core));
  }
  return cores;
}

}  // namespace

int CpuTopology::default_threads() const {
  if (cpu_quota >= usable_cores) return usable_cores;
  return std::max(1, static_cast<int>(cpu_quota));
}

CpuTopology DetectCpuTopology() {
  CpuTopology result;
  result.cpu_quota = CpuQuota(CgroupsOfThisProcess(), ReadWholeFile);
  const OwnTopology topology;
  if (!topology.is_loaded()) return result;
  result.usable_cores =
      std::max(1, static_cast<int>(CoresIn(topology.get(), topology.mask()).size()));
  result.usable_hardware_threads = std::max(
      1, hwloc_get_nbobjs_inside_cpuset_by_type(topology.get(), topology.mask(), HWLOC_OBJ_PU));
  result.numa_nodes = std::max(1, hwloc_get_nbobjs_by_type(topology.get(), HWLOC_OBJ_NUMANODE));
  return result;
}

std::vector<CpuCore> UsableCpuCores() {
  const OwnTopology topology;
  if (!topology.is_loaded()) return {};
  return CoresIn(topology.get(), topology.mask());
}

std::vector<CpuCore> CpuCoresOf(hwloc_topology* topology) {
  return CoresIn(topology, hwloc_topology_get_topology_cpuset(topology));
}

std::vector<NumaNode> NumaNodesOf(hwloc_topology* topology, const hwloc_bitmap_s* mask) {
  const hwloc_cpuset_t usable = hwloc_bitmap_alloc();
  hwloc_bitmap_and(usable, mask, hwloc_topology_get_allowed_cpuset(topology));
  std::vector<NumaNode> nodes;
  for (hwloc_obj_t object = nullptr;
       (object = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_NUMANODE, object)) != nullptr;) {
    NumaNode node;
    node.number = static_cast<int>(object->os_index);
    node.memory_bytes = object->attr->numanode.local_memory;
    node.memory_is_allowed =
        hwloc_bitmap_isset(hwloc_topology_get_allowed_nodeset(topology), object->os_index) != 0;
    nodes.push_back(std::move(node));
  }
  std::ranges::sort(nodes, {}, &NumaNode::number);
  const auto node_of = [&](const CpuCore& core) {
    return std::ranges::find(nodes, core.numa_node, &NumaNode::number);
  };
  for (const CpuCore& core : CpuCoresOf(topology)) {
    if (const auto node = node_of(core); node != nodes.end()) ++node->machine_cores;
  }
  for (CpuCore& core : CoresIn(topology, usable)) {
    if (const auto node = node_of(core); node != nodes.end())
      node->cores.push_back(std::move(core));
  }
  hwloc_bitmap_free(usable);
  return nodes;
}

std::vector<NumaNode> NumaNodesOfMachine() {
  const OwnTopology topology(HWLOC_TOPOLOGY_FLAG_INCLUDE_DISALLOWED);
  if (!topology.is_loaded()) return {};
  return NumaNodesOf(topology.get(), topology.mask());
}

}  // namespace sheaf
