#pragma once
// An unquantized matrix [n][k], row-major, as it lies in a safetensors file (any 2- or 4-byte alignment of
// its element), and conversions of its elements to float.
//
// Ownership  a view. Threads  pure functions.

#include <cstddef>
#include <cstdint>

namespace sheaf::kernels {

enum class FloatFormat : uint8_t { kF32, kBF16, kF16 };

constexpr size_t FloatBytes(FloatFormat format) { return format == FloatFormat::kF32 ? 4 : 2; }

struct DenseMatrix {
  int n = 0;
  int k = 0;
  FloatFormat format = FloatFormat::kF32;
  const void* data = nullptr;

  const uint8_t* row(int64_t r) const {
    return static_cast<const uint8_t*>(data) + static_cast<size_t>(r) * k * FloatBytes(format);
  }
};

// out[i] = float(in[i]), exact. In and out must not overlap.
void WidenToFloat(const void* in, FloatFormat format, size_t count, float* out);

namespace ref {
void WidenToFloat(const void* in, FloatFormat format, size_t count, float* out);
}  // namespace ref

}  // namespace sheaf::kernels
