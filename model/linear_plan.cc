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
bool LooksLikeAwq(const TensorInfo& words, int k) {
  return words.shape.size() == 2 && words.shape[0] == k;
}

// What the config says of the module, for the formats' plans.
void SetClaim(const QuantizationHints& hints, const std::string& module, LinearPlan& plan) {
  const ModuleHints said = hints.Of(module);
  plan.group_size = said.group_size;
  plan.claim.symmetric = said.symmetric;
  plan.claim.source = said.symmetric_source;
}

// auto-round keeps the rotations of a Linear's inputs beside its weights.
absl::Status CheckNotRotated(const Checkpoint& checkpoint, const std::string& prefix) {
  for (const char* suffix : {".spinquant_r1_type", ".spinquant_r4_type"}) {
    const TensorInfo* const rotation = checkpoint.Find(prefix + suffix);
    if (rotation == nullptr) continue;
    return absl::UnimplementedError(absl::StrFormat(
        "%s: tensor %s: wanted weights that need no rotation at run time, got one of the inputs",
        rotation->file, rotation->name));
  }
  return absl::OkStatus();
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

// A Linear that is one matrix [n][k] under its own name.
absl::Status PlanByDtype(const Checkpoint& checkpoint, const QuantizationHints& hints,
                         LinearPlan& plan) {
  switch (plan.codes->dtype) {
    case TensorDtype::kF8E4M3:
      return PlanFp8(checkpoint, hints, plan);
    case TensorDtype::kI8:
      SHEAF_RETURN_IF_ERROR(RefuseUnreadLinear(checkpoint, plan.prefix));
      SetClaim(hints, plan.prefix, plan);
      return PlanIntQuantized(checkpoint, plan);
    default:
      SHEAF_RETURN_IF_ERROR(RefuseUnreadDtype(checkpoint, plan));
      return PlanDense(checkpoint, plan);
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
    case WeightFormat::kIntQuantized:
      return "int-quantized";
    case WeightFormat::kFp8:
      return "fp8";
  }
  return "";
}

uint64_t LinearPlan::codes_bytes() const {
  if (!is_part) return codes->bytes;
  const auto inputs = static_cast<uint64_t>(k), per_word = static_cast<uint64_t>(codes_a_word());
  return n * (packed() ? (inputs + per_word - 1) / per_word : inputs) * DtypeBytes(codes->dtype);
}

uint64_t LinearPlan::scales_bytes() const {
  if (scales == nullptr || !is_part) return scales == nullptr ? 0 : scales->bytes;
  if (format == WeightFormat::kFp8) return Fp8ScaleBytes(*this);
  return static_cast<uint64_t>(n) * groups * DtypeBytes(scales->dtype);
}

uint64_t LinearPlan::zeros_bytes() const {
  if (zeros == nullptr || !is_part) return zeros == nullptr ? 0 : zeros->bytes;
  const int per_word = codes_a_word();
  const uint64_t rows = zeros->dtype == TensorDtype::kI8 ? n : (n + per_word - 1) / per_word;
  return rows * groups * DtypeBytes(zeros->dtype);
}

uint64_t LinearPlan::file_bytes() const {
  uint64_t bytes = codes_bytes() + scales_bytes() + zeros_bytes();
  if (bias != nullptr) bytes += bias->bytes;
  if (!counts_whole) return bytes;
  for (const TensorInfo* tensor : {g_idx, shape}) bytes += tensor != nullptr ? tensor->bytes : 0;
  return bytes;
}

void LinearPlan::WillNeed(const Checkpoint& checkpoint) const {
  checkpoint.WillNeed(*codes, codes_offset, codes_bytes());
  if (scales != nullptr) checkpoint.WillNeed(*scales, scales_offset, scales_bytes());
  if (zeros != nullptr) checkpoint.WillNeed(*zeros, zeros_offset, zeros_bytes());
  for (const TensorInfo* tensor : {g_idx, shape, bias}) {
    if (tensor != nullptr) checkpoint.WillNeed(*tensor, 0, tensor->bytes);
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
  SHEAF_RETURN_IF_ERROR(CheckNotRotated(checkpoint, prefix));
  if ((plan.codes = checkpoint.Find(prefix + ".qweight")) != nullptr) {
    SetClaim(hints, prefix, plan);
    if (LooksLikeAwq(*plan.codes, k)) {
      SHEAF_RETURN_IF_ERROR(PlanAwq(checkpoint, plan));
    } else {
      SHEAF_RETURN_IF_ERROR(PlanGptq(checkpoint, hints, plan));
    }
  } else if ((plan.codes = checkpoint.Find(prefix + ".weight_packed")) != nullptr) {
    SHEAF_RETURN_IF_ERROR(RefuseUnreadDtype(checkpoint, plan));
    SetClaim(hints, prefix, plan);
    SHEAF_RETURN_IF_ERROR(PlanPackQuantized(checkpoint, plan));
  } else if ((plan.codes = checkpoint.Find(prefix + ".weight")) != nullptr) {
    SHEAF_RETURN_IF_ERROR(PlanByDtype(checkpoint, hints, plan));
  } else {
    SHEAF_RETURN_IF_ERROR(RefuseUnreadLinear(checkpoint, prefix));
    return absl::NotFoundError(
        absl::StrFormat("%s: missing tensor %s: wanted one of .qweight, .weight_packed, .weight",
                        checkpoint.directory(), prefix));
  }
  SHEAF_RETURN_IF_ERROR(PlanBias(checkpoint, plan));
  return plan;
}

bool HasFusedLinear(const Checkpoint& checkpoint, const std::string& module) {
  for (const char* suffix : {"", ".weight", ".weight_packed", "_packed"}) {
    if (checkpoint.Find(module + suffix) != nullptr) return true;
  }
  return false;
}

absl::StatusOr<LinearPlan> PlanFusedLinear(const Checkpoint& checkpoint,
                                           const QuantizationHints& hints,
                                           const std::string& module, const FusedPart& part) {
  LinearPlan plan;
  plan.prefix = absl::StrFormat("%s[%d]", module, part.expert);
  plan.n = part.n;
  plan.k = part.k;
  plan.is_part = true;
  plan.matrix = part.expert;
  plan.matrix_rows = part.rows;
  plan.first_row = part.first_row;
  plan.counts_whole = part.expert == 0 && part.first_row == 0;
  SHEAF_RETURN_IF_ERROR(RefuseUnreadFused(checkpoint, module));
  for (const char* suffix : {".bias", "_bias"}) {
    if (const TensorInfo* const bias = checkpoint.Find(module + suffix); bias != nullptr)
      return TensorError(*bias, "experts without a bias", "one");
  }
  plan.codes = checkpoint.Find(module);
  if (plan.codes == nullptr) plan.codes = checkpoint.Find(module + ".weight");
  if (plan.codes == nullptr) {
    SetClaim(hints, module, plan);
    SHEAF_RETURN_IF_ERROR(PlanFusedPackQuantized(checkpoint, module, part, plan));
    return plan;
  }
  SHEAF_RETURN_IF_ERROR(CheckShape(*plan.codes, {part.num_experts, part.rows, part.k}));
  if (plan.codes->dtype == TensorDtype::kF8E4M3) {
    SHEAF_RETURN_IF_ERROR(
        PlanFusedFp8(checkpoint, hints, part.rows, part.expert, part.first_row, plan));
  } else {
    SHEAF_RETURN_IF_ERROR(CheckDtype(*plan.codes, kFloatDtypes));
  }
  plan.codes_offset = (static_cast<uint64_t>(part.expert) * part.rows + part.first_row) * part.k *
                      DtypeBytes(plan.codes->dtype);
  return plan;
}

}  // namespace sheaf
