#include "model/formats/unread_formats.h"

#include "absl/strings/str_format.h"

namespace sheaf {
namespace {

constexpr char kNvfp4[] = "NVFP4 (4-bit floats, FP8 scales of 16 inputs)";
constexpr char kMxfp4[] = "MXFP4 (4-bit floats, 8-bit exponents of 32 inputs)";

absl::Status Refusal(const TensorInfo& tensor, std::string_view format) {
  return absl::UnimplementedError(absl::StrFormat(
      "%s: tensor %s: %s is not served: wanted 4-bit or 8-bit integers, FP8 (e4m3) or plain floats",
      tensor.file, tensor.name, format));
}

bool IsExponents(const TensorInfo* scales) {
  return scales != nullptr &&
         (scales->dtype == TensorDtype::kU8 || scales->dtype == TensorDtype::kF8E8M0);
}

// What only one format has beside, or instead of, the weight.
struct Mark {
  std::string_view suffix;
  std::string_view format;
};
constexpr Mark kMarks[] = {
    {".weight_global_scale", kNvfp4},
    {".weight_scale_2", kNvfp4},
    {".weight.absmax", "bitsandbytes (4 bits)"},
    {".weight.quant_state.bitsandbytes__nf4", "bitsandbytes NF4"},
    {".weight.quant_state.bitsandbytes__fp4", "bitsandbytes FP4"},
    {".SCB", "bitsandbytes (8 bits, LLM.int8)"},
    {".weight.SCB", "bitsandbytes (8 bits, LLM.int8)"},
    {".W_q", "HQQ"},
    {".codebooks", "AQLM"},
    {".centroids.weight", "VPTQ"},
    {".centroids", "VPTQ"},
    {".Qidxs", "QuIP#"},
    {".q_weight", "EXL2"},
    {".trellis", "EXL3"},
    {".weight_scales", "EETQ (8 bits)"},
    {".weight._data", "Quanto"},
    {".weight_compressed", "a sparse format of compressed-tensors"},
    {".compressed", "a sparse format of compressed-tensors"},
    {".B", "Marlin (words in the order of a GPU kernel)"},
};

// Of the weight itself; "" = not one of these.
std::string_view FormatOfDtype(const TensorInfo& weight, const TensorInfo* scales) {
  switch (weight.dtype) {
    case TensorDtype::kF4:
      return IsExponents(scales) ? kMxfp4 : "a format of 4-bit floats (F4)";
    case TensorDtype::kF6E2M3:
    case TensorDtype::kF6E3M2:
      return "a format of 6-bit floats";
    case TensorDtype::kF8E5M2:
      return "FP8 of the e5m2 kind";
    case TensorDtype::kF8E4M3Fnuz:
    case TensorDtype::kF8E5M2Fnuz:
      return "FP8 of the fnuz kind (another bias)";
    case TensorDtype::kU8:
      if (IsExponents(scales)) return kMxfp4;
      return scales != nullptr && scales->dtype == TensorDtype::kF8E4M3 ? kNvfp4 : "";
    default:
      return "";
  }
}

}  // namespace

absl::Status RefuseUnreadLinear(const Checkpoint& checkpoint, const std::string& prefix) {
  for (const Mark& mark : kMarks) {
    const TensorInfo* const tensor = checkpoint.Find(prefix + std::string(mark.suffix));
    if (tensor == nullptr) continue;
    // The tensor that somebody will look for is the weight.
    const TensorInfo* weight = checkpoint.Find(prefix + ".weight_packed");
    if (weight == nullptr) weight = checkpoint.Find(prefix + ".weight");
    return Refusal(weight != nullptr ? *weight : *tensor, mark.format);
  }
  for (const char* suffix : {".weight_packed", ".weight"}) {
    const TensorInfo* const weight = checkpoint.Find(prefix + suffix);
    if (weight == nullptr) continue;
    const std::string_view format =
        FormatOfDtype(*weight, checkpoint.Find(prefix + ".weight_scale"));
    if (!format.empty()) return Refusal(*weight, format);
  }
  return absl::OkStatus();
}

absl::Status RefuseUnreadFused(const Checkpoint& checkpoint, const std::string& name) {
  if (const TensorInfo* const blocks = checkpoint.Find(name + "_blocks"); blocks != nullptr) {
    return Refusal(*blocks, kMxfp4);
  }
  const TensorInfo* const weight = checkpoint.Find(name);
  if (weight == nullptr) return RefuseUnreadLinear(checkpoint, name);
  for (const char* suffix : {"_scale_2", "_weight_scale_2", "_global_scale"}) {
    if (checkpoint.Find(name + suffix) != nullptr) return Refusal(*weight, kNvfp4);
  }
  const TensorInfo* scales = checkpoint.Find(name + "_scale");
  if (scales == nullptr) scales = checkpoint.Find(name + "_weight_scale");
  const std::string_view format = FormatOfDtype(*weight, scales);
  return format.empty() ? absl::OkStatus() : Refusal(*weight, format);
}

}  // namespace sheaf
