#pragma once
// ExpertPlacement: which workers hold which expert, of every MoE layer. A value, constant once
// built.
//
// Holders of an expert are in order of preference; a dispatch goes to the first. Today the planner
// (router/cluster/placement.h) gives every expert one holder; replicas need no other type.
//
// Threads    constant after construction. Errors: At() with a layer or expert outside gives an
//            empty span.

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "base/ids.h"

namespace sheaf {

class ExpertPlacement {
 public:
  ExpertPlacement(int num_layers, int num_experts)
      : num_layers_(num_layers),
        num_experts_(num_experts),
        holders_(static_cast<size_t>(num_layers) * static_cast<size_t>(num_experts)) {}

  // One worker holds everything.
  static ExpertPlacement Single(int num_layers, int num_experts, WorkerId worker) {
    ExpertPlacement placement(num_layers, num_experts);
    for (auto& holders : placement.holders_) holders.push_back(worker);
    return placement;
  }

  int num_layers() const { return num_layers_; }    // decoder layers; dense ones have no holders
  int num_experts() const { return num_experts_; }  // routed experts a layer

  void AddHolder(LayerId layer, ExpertId expert, WorkerId worker) {
    holders_[Index(layer, expert)].push_back(worker);
  }

  std::span<const WorkerId> At(LayerId layer, ExpertId expert) const {
    if (layer.value() < 0 || layer.value() >= num_layers_ || expert.value() < 0 ||
        expert.value() >= num_experts_) {
      return {};
    }
    return holders_[Index(layer, expert)];
  }

 private:
  size_t Index(LayerId layer, ExpertId expert) const {
    return static_cast<size_t>(layer.value()) * static_cast<size_t>(num_experts_) +
           static_cast<size_t>(expert.value());
  }

  int num_layers_;
  int num_experts_;
  std::vector<std::vector<WorkerId>> holders_;
};

}  // namespace sheaf
