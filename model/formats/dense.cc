// Plain bf16, f16 and f32 weights: kept as they are.

#include "base/status.h"
#include "model/formats/formats.h"
#include "model/formats/tensor_checks.h"

namespace sheaf {

absl::Status PlanDense(const Checkpoint&, LinearPlan& plan) {
  plan.format = WeightFormat::kDense;
  SHEAF_RETURN_IF_ERROR(CheckDtype(*plan.codes, kFloatDtypes));
  return CheckShape(*plan.codes, {plan.n, plan.k});
}

}  // namespace sheaf
