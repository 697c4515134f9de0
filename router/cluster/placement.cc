#include "router/cluster/placement.h"

namespace sheaf {

ExpertPlacement PlanPlacement(const ModelIdentity& model, int num_workers) {
  ExpertPlacement placement(model.num_layers, model.num_experts);
  const int base = model.num_experts / num_workers;
  const int extra = model.num_experts % num_workers;
  for (int layer = model.first_moe_layer; layer < model.num_layers; ++layer) {
    // The `extra` workers that get one more start where those of the layer before ended.
    const int first_extra =
        static_cast<int>(int64_t{layer - model.first_moe_layer} * extra % num_workers);
    int expert = 0;
    for (int worker = 0; worker < num_workers; ++worker) {
      const int turn = (worker - first_extra + num_workers) % num_workers;
      const int count = base + (turn < extra ? 1 : 0);
      for (int i = 0; i < count; ++i) {
        placement.AddHolder(LayerId(layer), ExpertId(expert++), WorkerId(worker));
      }
    }
  }
  return placement;
}

std::vector<ExpertRangeOfLayer> SliceOf(const ExpertPlacement& placement, WorkerId worker) {
  std::vector<ExpertRangeOfLayer> slice;
  for (int layer = 0; layer < placement.num_layers(); ++layer) {
    for (int expert = 0; expert < placement.num_experts(); ++expert) {
      const auto holders = placement.At(LayerId(layer), ExpertId(expert));
      bool holds = false;
      for (const WorkerId holder : holders) holds = holds || holder == worker;
      if (!holds) continue;
      if (!slice.empty() && slice.back().layer == LayerId(layer) && slice.back().end == expert) {
        ++slice.back().end;
      } else {
        slice.push_back({LayerId(layer), expert, expert + 1});
      }
    }
  }
  return slice;
}

}  // namespace sheaf
