#include "model/linear_plan.h"

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "model/formats/formats.h"
#include "model/formats/tensor_checks.h"
#include "model/formats/unread_formats.h"

namespace sheaf {
namespace {

// GPTQ and AWQ share their tensor names; the words' shape tells them apart, whatever the config
// says.
bool LooksLikeAwq(const TensorInfo& words, int n, int k) {
  return words.shape == std::vector<int64_t>{k, n / 8};
}

// Looks for unread formats only where a dtype is none of those read: look-ups cost time on large
// checkpoints.
absl::Status RefuseUnreadDtype(const Checkpoint& checkpoint, const LinearPlan& plan) {
  switch (plan.codes->dtype) {
    case TensorDtype::kI32:
    case TensorDtype::kU32:
    case TensorDtype::kBF16:
    case TensorDtype::kF16:
    case TensorDtype::kF32:
      return absl::OkStatus();
    default:
      return RefuseUnreadLinear(checkpoint, plan.prefix);
  }
}

absl::Status PlanBias(const Checkpoint& checkpoint, LinearPlan& plan) {
  plan.bias = checkpoint.Find(plan.prefix + ".bias");
  if (plan.bias == nullptr) return absl::OkStatus();
  SHEAF_RETURN_IF_ERROR(CheckDtype(*plan.bias, kFloatDtypes));
  return CheckShape(*plan.bias, {plan.n});
}

}  // namespace

std::string_view WeightFormatName(WeightFormat format) {
  switch (format) {
    case WeightFormat::kDense:
      return "plain";
    case WeightFormat::kGptq:
      return "gptq";
    case WeightFormat::kAwq:
      return "awq";
    case WeightFormat::kPackQuantized:
      return "pack-quantized";
    case WeightFormat::kFp8:
      return "fp8";
  }
  return "";
}

uint64_t LinearPlan::file_bytes() const {
  if (!packed()) {
    return static_cast<uint64_t>(n) * k * DtypeBytes(codes->dtype) +
           (bias != nullptr ? bias->bytes : 0) + (quantized() ? Fp8ScaleBytes(*this) : 0);
  }
  uint64_t bytes = 0;
  ForEachTensor([&](const TensorInfo& tensor) { bytes += tensor.bytes; });
  return bytes;
}

void LinearPlan::WillNeed(const Checkpoint& checkpoint) const {
  if (packed()) {
    ForEachTensor([&](const TensorInfo& tensor) { checkpoint.WillNeed(tensor, 0, tensor.bytes); });
  } else {
    const uint64_t bytes = static_cast<uint64_t>(n) * k * DtypeBytes(codes->dtype);
    checkpoint.WillNeed(*codes, plain_offset, bytes);
  }
}

absl::StatusOr<LinearPlan> PlanPlain(const Checkpoint& checkpoint, const std::string& tensor, int n,
                                     int k) {
  LinearPlan plan;
  plan.prefix = tensor;
  plan.n = n;
  plan.k = k;
  SHEAF_ASSIGN_OR_RETURN(plan.codes, RequireTensor(checkpoint, tensor));
  SHEAF_RETURN_IF_ERROR(PlanDense(checkpoint, plan));
  return plan;
}

absl::StatusOr<LinearPlan> PlanLinear(const Checkpoint& checkpoint, const QuantizationHints& hints,
                                      const std::string& prefix, int n, int k) {
  LinearPlan plan;
  plan.prefix = prefix;
  plan.n = n;
  plan.k = k;
  if ((plan.codes = checkpoint.Find(prefix + ".qweight")) != nullptr) {
    if (LooksLikeAwq(*plan.codes, n, k)) {
      SHEAF_RETURN_IF_ERROR(PlanAwq(checkpoint, hints, plan));
    } else {
      SHEAF_RETURN_IF_ERROR(PlanGptq(checkpoint, hints, plan));
    }
  } else if ((plan.codes = checkpoint.Find(prefix + ".weight_packed")) != nullptr) {
    SHEAF_RETURN_IF_ERROR(RefuseUnreadDtype(checkpoint, plan));
    SHEAF_RETURN_IF_ERROR(PlanPackQuantized(checkpoint, hints, plan));
  } else if ((plan.codes = checkpoint.Find(prefix + ".weight")) != nullptr) {
    if (plan.codes->dtype == TensorDtype::kF8E4M3) {
      SHEAF_RETURN_IF_ERROR(PlanFp8(checkpoint, hints, plan));
    } else {
      SHEAF_RETURN_IF_ERROR(RefuseUnreadDtype(checkpoint, plan));
      SHEAF_RETURN_IF_ERROR(PlanDense(checkpoint, plan));
    }
  } else {
    SHEAF_RETURN_IF_ERROR(RefuseUnreadLinear(checkpoint, prefix));
    return absl::NotFoundError(
        absl::StrFormat("%s: missing tensor %s: wanted one of .qweight, .weight_packed, .weight",
                        checkpoint.directory(), prefix));
  }
  SHEAF_RETURN_IF_ERROR(PlanBias(checkpoint, plan));
  return plan;
}

absl::StatusOr<LinearPlan> PlanFusedLinear(const Checkpoint& checkpoint,
                                           const QuantizationHints& hints,
                                           const std::string& tensor,
                                           int num_experts, int rows, int k, int expert,
                                           int first_row, int n) {
  LinearPlan plan;
  plan.prefix = absl::StrFormat("%s[%d]", tensor, expert);
  plan.n = n;
  plan.k = k;
  SHEAF_RETURN_IF_ERROR(RefuseUnreadFused(checkpoint, tensor));
  SHEAF_ASSIGN_OR_RETURN(plan.codes, RequireTensor(checkpoint, tensor));
  SHEAF_RETURN_IF_ERROR(CheckShape(*plan.codes, {num_experts, rows, k}));
  if (plan.codes->dtype == TensorDtype::kF8E4M3) {
    SHEAF_RETURN_IF_ERROR(PlanFusedFp8(checkpoint, hints, rows, expert, first_row, plan));
  } else {
    SHEAF_RETURN_IF_ERROR(CheckDtype(*plan.codes, kFloatDtypes));
  }
  plan.plain_offset =
      (static_cast<uint64_t>(expert) * rows + first_row) * k * DtypeBytes(plan.codes->dtype);
  return plan;
}

}  // namespace sheaf
