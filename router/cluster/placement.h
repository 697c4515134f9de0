#pragma once
// Which worker holds which experts. Pure.
//
// Every MoE layer is cut into one contiguous range of experts a worker; ranges of a layer differ by
// at most one expert, and the workers that get one more change from layer to layer, so that whole
// slices differ by at most one.
//
// Example, 7 experts on 3 workers: layer 0: 3 2 2, layer 1: 2 3 2, layer 2: 2 2 3.

#include <vector>

#include "exchange/expert_placement.h"
#include "exchange/model_identity.h"

namespace sheaf {

// num_workers >= 1. With more workers than experts some hold nothing in a layer.
ExpertPlacement PlanPlacement(const ModelIdentity& model, int num_workers);

struct ExpertRangeOfLayer {
  LayerId layer;
  int begin = 0;  // experts [begin, end)
  int end = 0;
  friend bool operator==(const ExpertRangeOfLayer&, const ExpertRangeOfLayer&) = default;
};

// What a worker holds, by ascending layer; layers of which it holds nothing are left out.
std::vector<ExpertRangeOfLayer> SliceOf(const ExpertPlacement& placement, WorkerId worker);

}  // namespace sheaf
