#include "base/numa_interleave.h"

#include <hwloc.h>

#include "base/numa_placement.h"

namespace sheaf {
namespace {

// This system's topology, for binding.
class SystemTopology {
 public:
  SystemTopology() {
    if (hwloc_topology_init(&topology_) != 0) return;
    is_loaded_ =
        hwloc_topology_load(topology_) == 0 && hwloc_topology_is_thissystem(topology_) != 0;
  }
  ~SystemTopology() {
    if (topology_ != nullptr) hwloc_topology_destroy(topology_);
  }
  SystemTopology(const SystemTopology&) = delete;
  SystemTopology& operator=(const SystemTopology&) = delete;

  bool is_loaded() const { return is_loaded_; }
  hwloc_topology_t get() const { return topology_; }

 private:
  hwloc_topology_t topology_ = nullptr;
  bool is_loaded_ = false;
};

bool HasPolicyOfItsOwn() {
  const SystemTopology topology;
  if (!topology.is_loaded()) return false;
  const hwloc_bitmap_t nodes = hwloc_bitmap_alloc();
  hwloc_membind_policy_t policy{};
  const bool is_known = hwloc_get_membind(topology.get(), nodes, &policy,
                                          HWLOC_MEMBIND_THREAD | HWLOC_MEMBIND_BYNODESET) == 0;
  hwloc_bitmap_free(nodes);
  return is_known && policy != HWLOC_MEMBIND_FIRSTTOUCH && policy != HWLOC_MEMBIND_DEFAULT;
}

std::vector<int> NodesOfThisProcess() {
  std::vector<int> nodes = NodesToInterleave(NumaNodesOfMachine());
  if (nodes.size() < 2 || HasPolicyOfItsOwn()) nodes.clear();
  return nodes;
}

}  // namespace

std::vector<int> NodesToInterleave(std::span<const NumaNode> nodes) {
  std::vector<int> numbers;
  for (const NumaNode& node : nodes) {
    if (WhyUnusable(node).empty()) numbers.push_back(node.number);
  }
  return numbers;
}

bool InterleavePages(void* data, size_t bytes, std::span<const int> nodes) {
  // Kept: a worker calls this for each of thousands of experts.
  static const SystemTopology topology;
  if (!topology.is_loaded()) return false;
  const hwloc_bitmap_t set = hwloc_bitmap_alloc();
  for (const int node : nodes) hwloc_bitmap_set(set, static_cast<unsigned>(node));
  const bool is_done = hwloc_set_area_membind(topology.get(), data, bytes, set,
                                              HWLOC_MEMBIND_INTERLEAVE,
                                              HWLOC_MEMBIND_BYNODESET) == 0;
  hwloc_bitmap_free(set);
  return is_done;
}

void InterleaveOverOwnNodes(void* data, size_t bytes) {
  static const std::vector<int> nodes = NodesOfThisProcess();
  if (!nodes.empty()) (void)InterleavePages(data, bytes, nodes);
}

}  // namespace sheaf
