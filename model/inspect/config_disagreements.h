#pragma once
// ConfigDisagreements: collects what the tensors are, then says in sentences where the config says
// otherwise.
//
// None of it stops serving: tensors are right and configs are often wrong (exports that claim
// another dtype, module lists of the first block only, MTP layers that were never saved). It is
// what a reader of `sheaf inspect` wants to know about a file.
//
// Threads    one.

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "model/config.h"
#include "model/linear_plan.h"
#include "model/model_layout.h"
#include "model/quantization/module_patterns.h"

namespace sheaf {

class ConfigDisagreements {
 public:
  explicit ConfigDisagreements(const ModelConfig& config)
      : config_(config), unquantized_(config.quantization.unquantized) {}

  void AddPlainTensor(const TensorInfo& tensor);
  void AddLinear(const LinearPlan& plan, ModelPart part);
  // A Linear whose tensors cannot be read: nothing is concluded from its absence.
  void AddFailedLinear() { any_failed_ = true; }
  // A calibrated scale of cached keys or values, and whether any cache uses it.
  void AddKvScale(const TensorInfo& tensor, bool used) {
    (used ? kv_scales_ : unused_kv_scales_).Add(tensor.name);
  }
  void AddUnusedTensor(const TensorInfo& tensor, ModelPart part);

  std::vector<std::string> Disagreements() const;

 private:
  // A count with one example's name.
  struct Tally {
    uint64_t count = 0;
    std::string example;
    void Add(const std::string& name) {
      if (count++ == 0) example = name;
    }
  };

  void AddFp8(const LinearPlan& plan);
  void CheckNaming(const LinearPlan& plan, ModelPart part);
  void AddQuantization(std::vector<std::string>& out) const;

  const ModelConfig& config_;
  bool any_failed_ = false;
  const ModulePatterns unquantized_;
  bool has_head_ = false;
  std::map<TensorDtype, uint64_t> plain_dtypes_;
  std::map<WeightFormat, Tally> formats_;
  std::map<std::pair<int, int>, Tally> other_bits_;         // said, stored
  std::map<std::pair<int, int>, Tally> other_group_sizes_;  // said, stored
  Tally quantized_, with_zero_points_, named_but_quantized_, plain_but_not_named_, mtp_, unused_;
  Tally kv_scales_, unused_kv_scales_;
  Tally other_blocks_, input_scales_;
};

}  // namespace sheaf
