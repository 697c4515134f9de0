#include "model/lm_head.h"

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "model/linear_loader.h"
#include "model/model_layout.h"

namespace sheaf {

std::string_view LmHeadDtypeName(LmHeadDtype dtype) {
  return dtype == LmHeadDtype::kInt8 ? "int8" : "auto";
}

std::optional<LmHeadDtype> ParseLmHeadDtype(std::string_view name) {
  for (const LmHeadDtype dtype : {LmHeadDtype::kAuto, LmHeadDtype::kInt8}) {
    if (name == LmHeadDtypeName(dtype)) return dtype;
  }
  return std::nullopt;
}

absl::StatusOr<LinearPlan> PlanLmHead(const Checkpoint& checkpoint, const ModelConfig& config,
                                      LmHeadDtype dtype) {
  SHEAF_ASSIGN_OR_RETURN(
      LinearPlan plan,
      HeadIsEmbedding(checkpoint, config)
          ? PlanPlain(checkpoint, kEmbeddingName, config.vocab_size, config.hidden_size)
          : PlanNamedLinear(checkpoint, config.quantization, LmHead(config)));
  plan.to_int8 = dtype == LmHeadDtype::kInt8 && !plan.quantized();
  return plan;
}

uint64_t LmHeadBytes(const LinearPlan& plan) {
  return plan.to_int8 ? MaxArenaBytes(plan, {}) : plan.file_bytes();
}

std::string LmHeadRemark(const LinearPlan& plan, LmHeadDtype dtype) {
  if (dtype != LmHeadDtype::kInt8 || plan.to_int8) return "";
  return absl::StrFormat("--lm-head-dtype int8: lm_head is stored as %s with %d bits and stays so",
                         WeightFormatName(plan.format),
                         plan.format == WeightFormat::kFp8 ? 8 : plan.bits);
}

}  // namespace sheaf
