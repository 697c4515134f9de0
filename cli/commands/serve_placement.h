#pragma once
// Where the processes of `sheaf serve` run: cores of their own (base/core_division.h), with --numa
// also NUMA nodes (base/numa_placement.h), or wherever the system likes. `sheaf router` is a router
// whose children are elsewhere.
//
// Threads    pure but for what the machine is asked. Before any thread starts.
// Errors     kFailedPrecondition, naming the flag: no node may be used.

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "cli/options/options.h"

namespace sheaf {

struct ServePlacement {
  std::vector<int> router_cpus;              // empty: whatever this process may use
  // workers, then attention ranks 1 and on; empty: as above
  std::vector<std::vector<int>> child_cpus;
  std::vector<int> child_nodes;              // of the same; empty: not bound
  std::string text;                          // for the log; empty: nothing to say
  std::vector<std::string> remarks;          // that an operator should know
};

// Sets what `options` knows of it: experts_share_cores, exchange_wait, node_loads,
// process.numa_node.
absl::StatusOr<ServePlacement> PlaceServe(RouterOptions& options);

// The same of `sheaf router`, which may have been told a node.
void PlaceRouter(RouterOptions& options);

}  // namespace sheaf
