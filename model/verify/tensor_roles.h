#pragma once
// TensorRoles: what each tensor of a checkpoint is for, by the plan of the Linear that it is part
// of.
//
// Ownership  borrows the checkpoint. Threads  constant after construction.

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/model_layout.h"

namespace sheaf {

enum class TensorRole : uint8_t {
  kPlain,
  kCodes,
  kScales,
  kZeros,
  kGroupIndex,
  kShape,
  kBias,
  kUnused
};

struct TensorUse {
  TensorRole role = TensorRole::kUnused;
  ModelPart part = ModelPart::kOther;
  const LinearPlan* plan = nullptr;  // of the Linear; null for norms and the like
};

class TensorRoles {
 public:
  // `config` null: nothing is known. What cannot be planned is left unused.
  TensorRoles(const Checkpoint& checkpoint, const ModelConfig* config);

  TensorUse UseOf(const TensorInfo& tensor) const;
  // Every Linear, experts included, in the order of the model.
  const std::vector<std::unique_ptr<const LinearPlan>>& linears() const { return linears_; }

 private:
  void AddLinear(LinearPlan plan, ModelPart part);

  std::vector<std::unique_ptr<const LinearPlan>> linears_;
  absl::flat_hash_map<const TensorInfo*, TensorUse> uses_;
};

}  // namespace sheaf
