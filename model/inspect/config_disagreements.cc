#include "model/inspect/config_disagreements.h"

#include <string_view>

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

bool IsKnownMethod(std::string_view method) {
  for (const std::string_view known :
       {"gptq", "auto-round", "auto_round", "intel/auto-round", "compressed-tensors", "awq", "fp8",
        "fbgemm_fp8", "modelopt"}) {
    if (method == known) return true;
  }
  return false;
}

bool IsFormatOfMethod(WeightFormat format, const QuantizationHints& hints) {
  // One that names several, FP8 among them.
  if (format == WeightFormat::kFp8) {
    return hints.method.find("fp8") != std::string::npos || hints.method == "compressed-tensors" ||
           hints.method == "modelopt";
  }
  if (hints.method == "compressed-tensors") {
    return format == WeightFormat::kPackQuantized || format == WeightFormat::kIntQuantized;
  }
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
  if (part == ModelPart::kLmHead) has_head_ = true;
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
  // "...gate_up_proj[3]" is one expert's part of a module.
  const ModuleHints hints =
      config_.quantization.Of(std::string_view(plan.prefix).substr(0, plan.prefix.find('[')));
  if (plan.format == WeightFormat::kPackQuantized && plan.zeros != nullptr &&
      hints.symmetric == true) {
    with_zero_points_.Add(plan.prefix);
  }
  if (hints.bits != 0 && hints.bits != plan.bits)
    other_bits_[{hints.bits, plan.bits}].Add(plan.prefix);
  const int said = hints.group_size;
  const bool same = said == plan.group_size || (said <= 0 && plan.groups == 1) ||
                    (plan.groups == 1 && said >= plan.k);
  if (said != 0 && !same) other_group_sizes_[{said, plan.group_size}].Add(plan.prefix);
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
  if (!unquantized_.unread().empty()) {
    out.push_back(absl::StrFormat(
        "%d regular expressions of quantization_config cannot be read and name no module, e.g. %s",
        unquantized_.unread().size(), unquantized_.unread().front()));
  }
  if (hints.method.empty()) {
    if (quantized_.count > 0) {
      out.push_back(absl::StrFormat("no quantization_config, but %d Linears are quantized, e.g. %s",
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
    if (any_failed_) return;
    out.push_back(
        absl::StrFormat("quantization_config says %s, but no Linear is quantized", hints.method));
    return;
  }
  for (const auto& [said_stored, tally] : other_bits_) {
    out.push_back(absl::StrFormat(
        "quantization_config says %d bits, but %d Linears are %d-bit, e.g. %s", said_stored.first,
        tally.count, said_stored.second, tally.example));
  }
  if (hints.activation_bits > 0 && hints.activation_bits < 16) {
    out.push_back(absl::StrFormat(
        "quantization_config says %d-bit activations: activations are 16-bit here",
        hints.activation_bits));
  }
  for (const auto& [format, tally] : formats_) {
    if (IsFormatOfMethod(format, hints)) continue;
    out.push_back(
        absl::StrFormat("quantization_config says %s, but %d Linears are stored as %s, e.g. %s",
                        hints.method, tally.count, WeightFormatName(format), tally.example));
  }
  for (const auto& [sizes, tally] : other_group_sizes_) {
    out.push_back(absl::StrFormat(
        "quantization_config says groups of %d, but %d Linears have groups of %d, e.g. %s",
        sizes.first, tally.count, sizes.second, tally.example));
  }
  if (other_blocks_.count > 0) {
    out.push_back(absl::StrFormat(
        "quantization_config says FP8 blocks of %d x %d, but %d Linears have others, e.g. %s",
        hints.block_rows, hints.block_columns, other_blocks_.count, other_blocks_.example));
  }
  if (with_zero_points_.count > 0) {
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
  std::vector<std::string> out = config_.remarks;
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
  if (has_head_ && config_.tie_word_embeddings) {
    out.push_back("tie_word_embeddings says true, but lm_head is stored: the stored one is used");
  }
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
