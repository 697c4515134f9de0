#include "base/numa_placement.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/core_division.h"

namespace sheaf {
namespace {

NumaPlace PlaceOn(int node, std::span<const CpuCore> cores, bool shares_cores) {
  NumaPlace place{.node = node, .cores = static_cast<int>(cores.size()),
                  .shares_cores = shares_cores};
  for (const CpuCore& core : cores) {
    place.cpus.insert(place.cpus.end(), core.cpus.begin(), core.cpus.end());
  }
  std::ranges::sort(place.cpus);
  return place;
}

// Part `i` of `count` like ones.
std::span<const CpuCore> Part(std::span<const CpuCore> cores, size_t i, size_t count) {
  const size_t begin = cores.size() * i / count, end = cores.size() * (i + 1) / count;
  return cores.subspan(begin, end - begin);
}

// Those that are on a node, by their numbers.
struct Inhabitants {
  std::vector<size_t> ranks, workers;
  size_t count() const { return ranks.size() + workers.size(); }
};

void DivideNode(const NumaNode& node, std::span<const CpuCore> cores, const Inhabitants& on_it,
                bool divide, NumaPlacement& placement) {
  const bool alone = on_it.count() == 1;
  if (!alone && (!divide || cores.size() < CoreDivision::kCoresEach * on_it.count())) {
    const NumaPlace shared = PlaceOn(node.number, cores, true);
    for (const size_t rank : on_it.ranks) placement.ranks[rank] = shared;
    for (const size_t worker : on_it.workers) placement.workers[worker] = shared;
    return;
  }
  const size_t of_ranks = on_it.workers.empty() ? cores.size()
                          : on_it.ranks.empty() ? 0
                                                : cores.size() / 2;
  const auto give = [&](const std::vector<size_t>& numbers, std::span<const CpuCore> theirs,
                        std::vector<NumaPlace>& places) {
    for (size_t i = 0; i < numbers.size(); ++i) {
      places[numbers[i]] = PlaceOn(node.number, Part(theirs, i, numbers.size()), false);
    }
  };
  give(on_it.ranks, cores.first(of_ranks), placement.ranks);
  give(on_it.workers, cores.subspan(of_ranks), placement.workers);
}

std::string Cores(int count) {
  return absl::StrFormat("%d %s", count, count == 1 ? "core" : "cores");
}

std::vector<NumaNode> Usable(std::span<const NumaNode> nodes, std::vector<std::string>& left_out) {
  std::vector<NumaNode> usable;
  for (const NumaNode& node : nodes) {
    if (node.machine_cores == 0) continue;
    if (const std::string why = WhyUnusable(node); why.empty()) {
      usable.push_back(node);
    } else {
      left_out.push_back(absl::StrFormat("NUMA node %d is left out: %s", node.number, why));
    }
  }
  return usable;
}

}  // namespace

std::string WhyUnusable(const NumaNode& node) {
  if (node.machine_cores == 0) return "it has no cores";
  if (node.cores.empty()) {
    return absl::StrFormat("none of its %s is in this process's affinity mask",
                           Cores(node.machine_cores));
  }
  if (!node.memory_is_allowed) {
    return "its memory is not allowed to this process (cpuset.mems)";
  }
  return "";
}

absl::StatusOr<NumaNode> UsableNode(std::span<const NumaNode> nodes, int number) {
  const auto node = std::ranges::find(nodes, number, &NumaNode::number);
  if (node == nodes.end()) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "wanted one of this machine's NUMA nodes (%s), got %d",
        absl::StrJoin(nodes, ", ", [](std::string* out, const NumaNode& n) {
          absl::StrAppend(out, n.number);
        }),
        number));
  }
  if (const std::string why = WhyUnusable(*node); !why.empty()) {
    return absl::FailedPreconditionError(
        absl::StrFormat("NUMA node %d cannot be used: %s", number, why));
  }
  return *node;
}

bool NumaPlacement::router_shares_with_workers() const {
  return !ranks.empty() && ranks.front().shares_cores &&
         std::ranges::any_of(workers, [this](const NumaPlace& worker) {
           return worker.node == ranks.front().node;
         });
}

std::string NumaPlacement::Text() const {
  std::map<int, std::vector<std::string>> by_node;
  const auto add = [&](const NumaPlace& place, const std::string& name) {
    by_node[place.node].push_back(absl::StrFormat(
        "%s (%s%s)", name, Cores(place.cores), place.shares_cores ? ", shared" : ""));
  };
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    add(ranks[rank], rank == 0 ? "router" : absl::StrFormat("attention rank %d", rank));
  }
  for (size_t worker = 0; worker < workers.size(); ++worker) {
    add(workers[worker], absl::StrFormat("worker %d", worker));
  }
  return absl::StrJoin(by_node, "; ", [](std::string* out, const auto& node) {
    absl::StrAppendFormat(out, "node %d: %s", node.first, absl::StrJoin(node.second, ", "));
  });
}

absl::StatusOr<NumaPlacement> PlaceOnNumaNodes(std::span<const NumaNode> nodes,
                                               const NumaDemand& demand) {
  NumaPlacement placement;
  const std::vector<NumaNode> usable = Usable(nodes, placement.remarks);
  if (usable.empty()) {
    return absl::FailedPreconditionError(
        placement.remarks.empty() ? std::string("this system does not tell of NUMA nodes")
                                  : absl::StrJoin(placement.remarks, "; "));
  }
  placement.ranks.resize(static_cast<size_t>(std::max(1, demand.ranks)));
  placement.workers.resize(static_cast<size_t>(std::max(0, demand.workers)));
  std::vector<Inhabitants> on(usable.size());
  for (size_t r = 0; r < placement.ranks.size(); ++r) on[r % on.size()].ranks.push_back(r);
  for (size_t w = 0; w < placement.workers.size(); ++w) on[w % on.size()].workers.push_back(w);

  size_t cores_in_use = 0;
  for (size_t n = 0; n < usable.size(); ++n) {
    if (on[n].count() > 0) cores_in_use += usable[n].cores.size();
  }
  std::vector<int> empty;
  for (size_t n = 0; n < usable.size(); ++n) {
    const NumaNode& node = usable[n];
    if (on[n].count() == 0) {
      empty.push_back(node.number);
      continue;
    }
    std::span<const CpuCore> cores = node.cores;
    if (demand.quota < static_cast<double>(cores_in_use)) {
      const double share = demand.quota * static_cast<double>(cores.size()) /
                           static_cast<double>(cores_in_use);
      cores = cores.first(std::max<size_t>(1, static_cast<size_t>(share)));
    }
    DivideNode(node, cores, on[n], demand.divide, placement);
  }
  if (!empty.empty()) {
    placement.remarks.push_back(absl::StrFormat(
        "NUMA %s %s empty: %d nodes could have as many workers or attention ranks",
        empty.size() == 1 ? "node" : "nodes",
        absl::StrCat(absl::StrJoin(empty, ", "), empty.size() == 1 ? " stays" : " stay"),
        usable.size()));
  }
  if (usable.size() == 1) {
    placement.remarks.push_back(absl::StrFormat(
        "%s: all processes are on node %d",
        nodes.size() == 1 ? "this machine has one NUMA node" : "one NUMA node may be used",
        usable.front().number));
  }
  return placement;
}

}  // namespace sheaf
