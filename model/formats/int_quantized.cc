// compressed-tensors "int-quantized": rows of signed bytes, which makes the byte plus 128 the code
// and the zero point plus 128 the code's.

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "model/formats/byte_codes.h"
#include "model/formats/formats.h"
#include "model/formats/tensor_checks.h"

namespace sheaf {

absl::Status PlanIntQuantized(const Checkpoint& checkpoint, LinearPlan& plan) {
  plan.format = WeightFormat::kIntQuantized;
  plan.bits = 8;
  SHEAF_RETURN_IF_ERROR(CheckDtype(*plan.codes, {TensorDtype::kI8}));
  SHEAF_RETURN_IF_ERROR(CheckShape(*plan.codes, {plan.n, plan.k}));
  SHEAF_ASSIGN_OR_RETURN(plan.scales, RequireTensor(checkpoint, plan.prefix + ".weight_scale"));
  SHEAF_RETURN_IF_ERROR(CheckDtype(*plan.scales, kFloatDtypes));
  const int64_t groups = plan.scales->shape.size() == 2 ? plan.scales->shape[1] : 0;
  plan.group_size = GroupSize(plan.k, groups, plan.group_size);
  if (plan.group_size == 0 || plan.scales->shape[0] != plan.n) {
    return TensorError(
        *plan.scales,
        absl::StrFormat("shape [%d, groups], groups of a multiple of 32 of %d inputs", plan.n,
                        plan.k),
        ShapeString(plan.scales->shape));
  }
  plan.groups = static_cast<int>(groups);
  const std::string zeros = plan.prefix + ".weight_zero_point";
  plan.zeros = checkpoint.Find(zeros);
  if (plan.zeros != nullptr) {
    SHEAF_RETURN_IF_ERROR(CheckDtype(*plan.zeros, {TensorDtype::kI8}));
    SHEAF_RETURN_IF_ERROR(CheckShape(*plan.zeros, {plan.n, groups}));
    plan.zero_points = ZeroPoints::kStored;
  } else if (plan.claim.symmetric == false) {
    return RequireTensor(checkpoint, zeros).status();
  }
  plan.g_idx = checkpoint.Find(plan.prefix + ".weight_g_idx");
  if (plan.g_idx != nullptr) {
    SHEAF_RETURN_IF_ERROR(CheckDtype(*plan.g_idx, {TensorDtype::kI32}));
    SHEAF_RETURN_IF_ERROR(CheckShape(*plan.g_idx, {plan.k}));
  }
  return absl::OkStatus();
}

void UnpackIntQuantized(const uint8_t* bytes, const LinearPlan& plan, const UnpackRange& range,
                        const WeightGroups& groups, uint32_t* codes) {
  UnpackRowsOfBytes(bytes, static_cast<size_t>(plan.k), /*flip=*/0x80, range, groups, codes);
}

int IntQuantizedZero(const uint8_t* zeros, const LinearPlan& plan, int row, int group) {
  return zeros[static_cast<size_t>(row) * plan.groups + group] ^ 0x80;
}

}  // namespace sheaf
