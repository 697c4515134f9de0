#include "model/config_disagreements.h"

#include <string_view>

#include "absl/strings/str_format.h"

namespace sheaf {
namespace {

std::string_view ConfigName(TensorDtype dtype) {
  switch (dtype) {
    case TensorDtype::kBF16:
      return "bfloat16";
    case TensorDtype::kF16:
      return "float16";
    case TensorDtype::kF32:
      return "float32";
    default:
      return DtypeName(dtype);
  }
}

bool IsKnownMethod(std::string_view method) {
  for (const std::string_view known : {"gptq", "auto-round", "auto_round", "intel/auto-round",
                                       "compressed-tensors", "awq"}) {
    if (method == known) return true;
  }
  return false;
}

WeightFormat FormatOfMethod(const QuantizationHints& hints) {
  if (hints.method == "compressed-tensors") return WeightFormat::kPackQuantized;
  const bool awq = hints.method == "awq" || hints.packing_format == "auto_round:auto_awq";
  return awq ? WeightFormat::kAwq : WeightFormat::kGptq;
}

}  // namespace

void ConfigDisagreements::AddPlainTensor(const TensorInfo& tensor) {
  // Correction biases are float32 in every file, whatever its dtype.
  if (tensor.name.find("e_score_correction_bias") == std::string::npos)
    ++plain_dtypes_[tensor.dtype];
}

void ConfigDisagreements::AddLinear(const LinearPlan& plan, ModelPart part) {
  CheckNaming(plan, part);
  if (!plan.quantized()) {
    ++plain_dtypes_[plan.codes->dtype];
    return;
  }
  quantized_.Add(plan.prefix);
  formats_[plan.format].Add(plan.prefix);
  if (plan.format == WeightFormat::kPackQuantized && plan.zeros != nullptr)
    with_zero_points_.Add(plan.prefix);
  const int said = config_.quantization.group_size;
  const bool same = said == plan.group_size || (said <= 0 && plan.groups == 1) ||
                    (plan.groups == 1 && said >= plan.k);
  if (said != 0 && !same) other_group_sizes_[plan.group_size].Add(plan.prefix);
}

void ConfigDisagreements::CheckNaming(const LinearPlan& plan, ModelPart part) {
  if (config_.quantization.method.empty()) return;
  // One expert of a layer stands for all in the regular expressions, which are slow.
  const bool stands_for_others =
      part != ModelPart::kRoutedExperts || plan.prefix.find(".experts.0.") != std::string::npos;
  const bool named =
      stands_for_others ? unquantized_.Matches(plan.prefix) : unquantized_.MatchesName(plan.prefix);
  if (named && plan.quantized()) named_but_quantized_.Add(plan.prefix);
  if (!named && !plan.quantized() && stands_for_others && part != ModelPart::kLmHead) {
    plain_but_not_named_.Add(plan.prefix);
  }
}

void ConfigDisagreements::AddUnusedTensor(const TensorInfo& tensor, ModelPart part) {
  (part == ModelPart::kMtp ? mtp_ : unused_).Add(tensor.name);
}

void ConfigDisagreements::AddQuantization(std::vector<std::string>& out) const {
  const QuantizationHints& hints = config_.quantization;
  if (!unquantized_.unread().empty()) {
    out.push_back(absl::StrFormat(
        "%d regular expressions of quantization_config cannot be read and name no module, e.g. %s",
        unquantized_.unread().size(), unquantized_.unread().front()));
  }
  if (hints.method.empty()) {
    if (quantized_.count > 0) {
      out.push_back(absl::StrFormat("no quantization_config, but %d Linears are 4-bit, e.g. %s",
                                    quantized_.count, quantized_.example));
    }
    return;
  }
  if (!IsKnownMethod(hints.method)) {
    out.push_back(absl::StrFormat(
        "quantization_config says quant_method \"%s\", which is not known here; the tensors' own "
        "names and shapes decide",
        hints.method.substr(0, 40)));
  }
  if (quantized_.count == 0) {
    out.push_back(
        absl::StrFormat("quantization_config says %s, but no Linear is quantized", hints.method));
    return;
  }
  if (hints.bits != 0 && hints.bits != 4) {
    out.push_back(absl::StrFormat("quantization_config says %d bits, but %d Linears are 4-bit",
                                  hints.bits, quantized_.count));
  }
  for (const auto& [format, tally] : formats_) {
    if (format == FormatOfMethod(hints)) continue;
    out.push_back(
        absl::StrFormat("quantization_config says %s, but %d Linears are stored as %s, e.g. %s",
                        hints.method, tally.count, WeightFormatName(format), tally.example));
  }
  for (const auto& [size, tally] : other_group_sizes_) {
    out.push_back(absl::StrFormat(
        "quantization_config says groups of %d, but %d Linears have groups of %d, e.g. %s",
        hints.group_size, tally.count, size, tally.example));
  }
  if (hints.symmetric && with_zero_points_.count > 0) {
    out.push_back(absl::StrFormat(
        "quantization_config says symmetric, but %d Linears store zero points, e.g. %s",
        with_zero_points_.count, with_zero_points_.example));
  }
  if (named_but_quantized_.count > 0) {
    out.push_back(
        absl::StrFormat("quantization_config calls %d Linears unquantized that are 4-bit, e.g. %s",
                        named_but_quantized_.count, named_but_quantized_.example));
  }
  if (plain_but_not_named_.count > 0) {
    out.push_back(absl::StrFormat(
        "%d Linears are plain that quantization_config does not call unquantized, e.g. %s",
        plain_but_not_named_.count, plain_but_not_named_.example));
  }
}

std::vector<std::string> ConfigDisagreements::Disagreements() const {
  std::vector<std::string> out;
  uint64_t total = 0;
  const std::pair<const TensorDtype, uint64_t>* most = nullptr;
  for (const auto& entry : plain_dtypes_) {
    total += entry.second;
    if (most == nullptr || entry.second > most->second) most = &entry;
  }
  if (most != nullptr && !config_.dtype.empty() &&
      config_.dtype.find(ConfigName(most->first)) == std::string::npos) {
    out.push_back(absl::StrFormat("dtype says %s, but %d of %d plain tensors are %s",
                                  config_.dtype.substr(0, 40), most->second, total,
                                  ConfigName(most->first)));
  }
  AddQuantization(out);
  if (config_.num_mtp_layers > 0 && mtp_.count == 0) {
    out.push_back(
        absl::StrFormat("num_nextn_predict_layers says %d, but there are no tensors of layer %d",
                        config_.num_mtp_layers, config_.num_layers));
  }
  if (mtp_.count > 0) {
    out.push_back(
        absl::StrFormat("%d tensors of multi-token prediction layers are not used, e.g. %s",
                        mtp_.count, mtp_.example));
  }
  if (unused_.count > 0) {
    out.push_back(
        absl::StrFormat("%d tensors belong to no part of the model and are not used, e.g. %s",
                        unused_.count, unused_.example));
  }
  return out;
}

}  // namespace sheaf
