#include "cli/commands/serve_placement.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/core_division.h"
#include "base/cpu_topology.h"
#include "base/memory_limits.h"
#include "base/numa_placement.h"
#include "cli/process/numa_node.h"

namespace sheaf {
namespace {

// In processes of their own.
int WorkerProcesses(const RouterOptions& options) {
  return options.transport == TransportKind::kInProcess ? 0 : options.pool.workers;
}

bool ThreadsAreTold(const RouterOptions& options) {
  return options.threads > 0 || options.worker_threads > 0;
}

std::vector<NodeLoad> LoadsOf(const NumaPlacement& placement) {
  const MemoryLimits machine = DetectMemoryLimits();
  std::vector<NodeLoad> loads;
  std::vector<int> numbers;
  const auto load_of = [&](int node) -> NodeLoad& {
    const auto known = std::ranges::find(numbers, node);
    if (known != numbers.end()) return loads[static_cast<size_t>(known - numbers.begin())];
    numbers.push_back(node);
    loads.push_back({LimitsOnNode(machine, node), 0, {}});
    return loads.back();
  };
  for (const NumaPlace& rank : placement.ranks) ++load_of(rank.node).ranks;
  for (size_t i = 0; i < placement.workers.size(); ++i) {
    load_of(placement.workers[i].node).workers.push_back(static_cast<int>(i));
  }
  return loads;
}

// `own`: each process has cores of its own; `turns`: they take turns on the same ones.
void SettleWait(const CpuTopology& cpu, bool own, bool turns, RouterOptions& options) {
  if (options.exchange_wait != WaitKind::kAuto) return;
  // A quota pays for looking, too.
  const bool sleep = (!own && !turns) || cpu.cpu_quota < cpu.usable_cores;
  options.exchange_wait = sleep ? WaitKind::kSleep : own ? WaitKind::kSpin : WaitKind::kYield;
}

void ShareAllCores(const CpuTopology& cpu, RouterOptions& options) {
  const SharedCores shared =
      ShareCores(cpu.default_threads(), options.tensor_parallel_size, options.threads,
                 options.pool.workers, options.worker_threads);
  options.experts_share_cores = !shared.own_cores;
  SettleWait(cpu, shared.own_cores, shared.take_turns, options);
}

absl::StatusOr<ServePlacement> PlaceOnNodes(RouterOptions& options) {
  const CpuTopology cpu = DetectCpuTopology();
  const NumaDemand demand{.ranks = options.tensor_parallel_size,
                          .workers = WorkerProcesses(options),
                          .divide = !ThreadsAreTold(options),
                          .quota = cpu.cpu_quota};
  auto planned = PlaceOnNumaNodes(NumaNodesOfMachine(), demand);
  if (!planned.ok()) {
    return absl::Status(planned.status().code(),
                        absl::StrFormat("--numa: %s", std::string(planned.status().message())));
  }
  ServePlacement placement;
  placement.router_cpus = planned->ranks.front().cpus;
  const auto add = [&](const NumaPlace& place) {
    placement.child_cpus.push_back(place.cpus);
    placement.child_nodes.push_back(place.node);
  };
  std::ranges::for_each(planned->workers, add);
  std::for_each(planned->ranks.begin() + 1, planned->ranks.end(), add);
  placement.text = absl::StrFormat("--numa: %s", planned->Text());
  placement.remarks = std::move(planned->remarks);
  options.process.numa_node = planned->ranks.front().node;
  options.experts_share_cores = planned->router_shares_with_workers();
  SettleWait(cpu, !options.experts_share_cores, /*turns=*/false, options);
  options.node_loads = LoadsOf(*planned);
  return placement;
}

}  // namespace

absl::StatusOr<ServePlacement> PlaceServe(RouterOptions& options) {
  if (options.numa) return PlaceOnNodes(options);
  ServePlacement placement;
  if (options.transport == TransportKind::kInProcess) {
    if (options.exchange_wait == WaitKind::kAuto) options.exchange_wait = WaitKind::kSleep;
    return placement;
  }
  // On a machine of few cores, and where the operator has said how many threads there shall be,
  // router and workers share all cores.
  const CpuTopology cpu = DetectCpuTopology();
  CoreDivision division;
  if (!ThreadsAreTold(options) && options.tensor_parallel_size == 1) {
    division = DivideCores(UsableCpuCores(), options.pool.workers, cpu.cpu_quota);
  }
  if (division.router_cpus.empty()) {
    ShareAllCores(cpu, options);
    return placement;
  }
  options.experts_share_cores = false;
  SettleWait(cpu, /*own=*/true, /*turns=*/false, options);
  placement.router_cpus = std::move(division.router_cpus);
  placement.child_cpus = std::move(division.worker_cpus);
  return placement;
}

void PlaceRouter(RouterOptions& options) {
  if (options.transport == TransportKind::kTcp) {
    options.experts_share_cores = false;  // they are on other machines
    if (options.exchange_wait == WaitKind::kAuto) options.exchange_wait = WaitKind::kSpin;
  }
  if (options.process.numa_node >= 0) {
    options.node_loads = {{LimitsOnNode(DetectMemoryLimits(), options.process.numa_node), 1, {}}};
  }
}

}  // namespace sheaf
