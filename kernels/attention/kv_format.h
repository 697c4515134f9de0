#pragma once
// How a cached key or value element is stored, and the conversions: float32 exactly, bf16
// round-to-nearest-even, fp8 e4m3fn and e5m2 as in vLLM with scale 1 (round-to-nearest-even,
// saturating; NaN stays NaN).
//
// Pure functions. Reading back is exact (every stored value is a float).

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace sheaf::kernels {

enum class KvFormat : uint8_t { kF32, kBF16, kFp8E4M3, kFp8E5M2 };

constexpr size_t KvBytes(KvFormat format) {
  return format == KvFormat::kF32 ? 4 : format == KvFormat::kBF16 ? 2 : 1;
}

// "auto"/"bfloat16"/"bf16", "float32"/"float"/"f32", "fp8"/"fp8_e4m3", "fp8_e5m2"; nothing for
// other names. "auto" is bf16, as the model's own dtype.
std::optional<KvFormat> ParseKvFormat(std::string_view name);
std::string_view KvFormatName(KvFormat format);

void StoreKv(const float* x, size_t count, KvFormat format, void* out);
void LoadKv(const void* in, size_t count, KvFormat format, float* out);

namespace ref {
void StoreKv(const float* x, size_t count, KvFormat format, void* out);
void LoadKv(const void* in, size_t count, KvFormat format, float* out);
}  // namespace ref

}  // namespace sheaf::kernels
