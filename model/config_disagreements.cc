#include "model/config_disagreements.h"

#include "absl/strings/str_format.h"

namespace sheaf {
namespace {

bool EndsWith(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

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

bool IsFormatOfMethod(WeightFormat format, const QuantizationHints& hints) {
  // One that names several, FP8 among them.
  if (format == WeightFormat::kFp8) {
    return hints.method.find("fp8") != std::string::npos || hints.method == "compressed-tensors" ||
           hints.method == "modelopt";
  }
  if (hints.method == "compressed-tensors") return format == WeightFormat::kPackQuantized;
  const bool awq = hints.method == "awq" || hints.packing_format == "auto_round:auto_awq";
  return format == (awq ? WeightFormat::kAwq : WeightFormat::kGptq);
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
  if (plan.format == WeightFormat::kFp8) {
    AddFp8(plan);
    return;
  }
  if (plan.format == WeightFormat::kPackQuantized && plan.zeros != nullptr)
    with_zero_points_.Add(plan.prefix);
  const int said = config_.quantization.group_size;
  const bool same = said == plan.group_size || (said <= 0 && plan.groups == 1) ||
                    (plan.groups == 1 && said >= plan.k);
  if (said != 0 && !same) other_group_sizes_[plan.group_size].Add(plan.prefix);
}

void ConfigDisagreements::AddFp8(const LinearPlan& plan) {
  const QuantizationHints& said = config_.quantization;
  const Fp8Scales& fp8 = plan.fp8;
  if (said.block_rows == 0) return;
  // One block that spans a side may be larger than the side.
  const bool rows = fp8.block_rows == said.block_rows ||
                    (fp8.block_rows >= plan.n && said.block_rows >= plan.n);
  const bool columns = fp8.block_columns == said.block_columns ||
                       (fp8.block_columns >= plan.k && said.block_columns >= plan.k);
  if (!rows || !columns) other_blocks_.Add(plan.prefix);
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
  const bool scales_inputs = EndsWith(tensor.name, ".input_scale") ||
                             EndsWith(tensor.name, ".input_global_scale") ||
                             EndsWith(tensor.name, "_input_scale");
  (part == ModelPart::kMtp ? mtp_ : scales_inputs ? input_scales_ : unused_).Add(tensor.name);
}

void ConfigDisagreements::AddQuantization(std::vector<std::string>& out) const {
  const QuantizationHints& hints = config_.quantization;
  if (hints.method.empty()) {
    if (quantized_.count > 0) {
      out.push_back(absl::StrFormat("no quantization_config, but %d Linears are quantized, e.g. %s",
                                    quantized_.count, quantized_.example));
    }
    return;
  }
  if (quantized_.count == 0) {
    out.push_back(
        absl::StrFormat("quantization_config says %s, but no Linear is quantized", hints.method));
    return;
  }
  // A config of several groups says bits and group size of its first, which may be FP8's.
  const auto fp8 = formats_.find(WeightFormat::kFp8);
  if (hints.bits != 0 && hints.bits != 4 && fp8 == formats_.end()) {
    out.push_back(absl::StrFormat("quantization_config says %d bits, but %d Linears are 4-bit",
                                  hints.bits, quantized_.count));
  }
  for (const auto& [format, tally] : formats_) {
    if (IsFormatOfMethod(format, hints)) continue;
    out.push_back(
        absl::StrFormat("quantization_config says %s, but %d Linears are stored as %s, e.g. %s",
                        hints.method, tally.count, WeightFormatName(format), tally.example));
  }
  for (const auto& [size, tally] : other_group_sizes_) {
    if (fp8 != formats_.end()) break;
    out.push_back(absl::StrFormat(
        "quantization_config says groups of %d, but %d Linears have groups of %d, e.g. %s",
        hints.group_size, tally.count, size, tally.example));
  }
  if (other_blocks_.count > 0) {
    out.push_back(absl::StrFormat(
        "quantization_config says FP8 blocks of %d x %d, but %d Linears have others, e.g. %s",
        hints.block_rows, hints.block_columns, other_blocks_.count, other_blocks_.example));
  }
  if (hints.symmetric && with_zero_points_.count > 0) {
    out.push_back(absl::StrFormat(
        "quantization_config says symmetric, but %d Linears store zero points, e.g. %s",
        with_zero_points_.count, with_zero_points_.example));
  }
  if (named_but_quantized_.count > 0) {
    out.push_back(
        absl::StrFormat("quantization_config calls %d Linears unquantized that are not, e.g. %s",
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
  if (input_scales_.count > 0) {
    out.push_back(absl::StrFormat(
        "%d scales of activations are not used, as activations are not quantized to 8 bits here, "
        "e.g. %s",
        input_scales_.count, input_scales_.example));
  }
  if (unused_.count > 0) {
    out.push_back(
        absl::StrFormat("%d tensors belong to no part of the model and are not used, e.g. %s",
                        unused_.count, unused_.example));
  }
  return out;
}

}  // namespace sheaf
