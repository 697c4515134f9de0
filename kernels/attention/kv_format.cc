#include "kernels/attention/kv_format.h"

namespace sheaf::kernels {

std::optional<KvFormat> ParseKvFormat(std::string_view name) {
  if (name == "auto" || name == "bfloat16" || name == "bf16") return KvFormat::kBF16;
  if (name == "float32" || name == "float" || name == "f32") return KvFormat::kF32;
  if (name == "fp8" || name == "fp8_e4m3") return KvFormat::kFp8E4M3;
  if (name == "fp8_e5m2") return KvFormat::kFp8E5M2;
  return std::nullopt;
}

std::string_view KvFormatName(KvFormat format) {
  switch (format) {
    case KvFormat::kF32:
      return "float32";
    case KvFormat::kBF16:
      return "bfloat16";
    case KvFormat::kFp8E4M3:
      return "fp8_e4m3";
    case KvFormat::kFp8E5M2:
      return "fp8_e5m2";
  }
  return "unknown";
}

}  // namespace sheaf::kernels
