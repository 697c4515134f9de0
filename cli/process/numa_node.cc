#include "cli/process/numa_node.h"

#include "absl/strings/str_format.h"
#include "base/numa_binding.h"

namespace sheaf {

absl::StatusOr<std::string> GoToNumaNode(const ProcessOptions& options) {
  if (options.numa_node < 0) return std::string();
  auto done = BindToNumaNode(options.numa_node);
  if (done.ok()) return done;
  return absl::Status(done.status().code(),
                      absl::StrFormat("--numa-node: %s", std::string(done.status().message())));
}

MemoryLimits LimitsOnNode(const MemoryLimits& machine, int node) {
  return Tighter(machine, ReadNodeMemory(node, ReadWholeFile));
}

}  // namespace sheaf
