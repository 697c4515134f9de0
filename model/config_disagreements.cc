#include "model/config_disagreements.h"

#include "absl/strings/str_format.h"

namespace sheaf {
namespace {

constexpr int kBits = 4;

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
  // "...gate_up_proj[3]" is one expert's part of a module.
  const ModuleHints hints =
      config_.quantization.Of(std::string_view(plan.prefix).substr(0, plan.prefix.find('[')));
  if (plan.format == WeightFormat::kPackQuantized && plan.zeros != nullptr &&
      hints.symmetric == true) {
    with_zero_points_.Add(plan.prefix);
  }
  if (hints.bits != 0 && hints.bits != kBits) other_bits_[hints.bits].Add(plan.prefix);
  const int said = hints.group_size;
  const bool same = said == plan.group_size || (said <= 0 && plan.groups == 1) ||
                    (plan.groups == 1 && said >= plan.k);
  if (said != 0 && !same) other_group_sizes_[{said, plan.group_size}].Add(plan.prefix);
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
  if (hints.method.empty()) {
    if (quantized_.count > 0) {
      out.push_back(absl::StrFormat("no quantization_config, but %d Linears are 4-bit, e.g. %s",
                                    quantized_.count, quantized_.example));
    }
    return;
  }
  if (quantized_.count == 0) {
    if (any_failed_) return;
    out.push_back(
        absl::StrFormat("quantization_config says %s, but no Linear is quantized", hints.method));
    return;
  }
  for (const auto& [bits, tally] : other_bits_) {
    out.push_back(
        absl::StrFormat("quantization_config says %d bits, but %d Linears are %d-bit, e.g. %s",
                        bits, tally.count, kBits, tally.example));
  }
  for (const auto& [format, tally] : formats_) {
    if (format == FormatOfMethod(hints)) continue;
    out.push_back(
        absl::StrFormat("quantization_config says %s, but %d Linears are stored as %s, e.g. %s",
                        hints.method, tally.count, WeightFormatName(format), tally.example));
  }
  for (const auto& [sizes, tally] : other_group_sizes_) {
    out.push_back(absl::StrFormat(
        "quantization_config says groups of %d, but %d Linears have groups of %d, e.g. %s",
        sizes.first, tally.count, sizes.second, tally.example));
  }
  if (with_zero_points_.count > 0) {
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
  if (config_.claimed_vocab_size > 0) {
    out.push_back(absl::StrFormat(
        "vocab_size says %d, but embedding and lm_head have %d rows: ids from %d on do not exist",
        config_.claimed_vocab_size, config_.vocab_size, config_.vocab_size));
  }
  AddQuantization(out);
  const std::vector<std::string>& unread = config_.quantization.remarks;
  out.insert(out.end(), unread.begin(), unread.end());
  if (kv_scales_.count > 0) {
    out.push_back(absl::StrFormat(
        "%d calibrated scales of cached keys and values are used by an e4m3 cache alone "
        "(--kv-cache-dtype fp8), e.g. %s",
        kv_scales_.count, kv_scales_.example));
  }
  if (unused_kv_scales_.count > 0) {
    out.push_back(absl::StrFormat(
        "%d calibrated scales of cached keys and values are not used, e.g. %s: an fp8 cache of "
        "latents has its own scales, one of keys and values at most one of each a layer",
        unused_kv_scales_.count, unused_kv_scales_.example));
  }
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
