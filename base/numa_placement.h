#pragma once
// PlaceOnNumaNodes: which NUMA node, and which cores there, each attention rank and each worker of
// this machine gets.
//
//   rank r, worker r  ->  node r modulo the nodes that this process may use; rank 0 is the router
//
// A node counts when it has cores in the affinity mask and its memory is allowed; one without any
// cores of the machine (memory alone) is not spoken of. The cores of a node go to those that are on
// it, without overlap: half to its ranks, half to its workers (all, where there are only ranks or
// only workers), a like share each, as base/core_division.h says why.
//
// Shared     with fewer than CoreDivision::kCoresEach cores a process, or when nothing is to be
//            divided, those on a node share its cores.
// Quota      each node that is used gets its share by cores, whole cores, at least one.
// Threads    pure.
// Errors     kFailedPrecondition: no node may be used; says why of each.

#include <limits>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/cpu_topology.h"

namespace sheaf {

struct NumaDemand {
  int ranks = 1;  // at least 1
  int workers = 0;
  bool divide = true;  // false: those on a node share its cores
  double quota = std::numeric_limits<double>::infinity();  // cores, for all of them
};

struct NumaPlace {
  int node = 0;               // its number
  std::vector<int> cpus{};    // ascending
  int cores = 0;              // that they are of
  bool shares_cores = false;  // with another on the node
};

struct NumaPlacement {
  std::vector<NumaPlace> ranks;
  std::vector<NumaPlace> workers;
  // What an operator should know: nodes that are left out or stay empty, or that there is only one.
  std::vector<std::string> remarks;

  // Rank 0 has cores that a worker has, too.
  bool router_shares_with_workers() const;
  // "node 0: router (8 cores), worker 0 (8 cores); node 1: worker 1 (16 cores)".
  std::string Text() const;
};

absl::StatusOr<NumaPlacement> PlaceOnNumaNodes(std::span<const NumaNode> nodes,
                                               const NumaDemand& demand);

// Why a process may not be on it ("none of its 8 cores is in the affinity mask"); empty: it may.
std::string WhyUnusable(const NumaNode& node);

// The node of that number, which may be used.
// Errors: kInvalidArgument where the machine has none of it, kFailedPrecondition where it may not.
absl::StatusOr<NumaNode> UsableNode(std::span<const NumaNode> nodes, int number);

}  // namespace sheaf
