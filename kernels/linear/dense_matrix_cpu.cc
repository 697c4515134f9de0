#include <algorithm>
#include <cstring>

#include "kernels/linear/dense_matrix.h"
#include "kernels/simd/highway_targets.h"
#include "kernels/simd/reference_switch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/linear/dense_matrix_cpu.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/linear/e4m3-inl.h"
#include "kernels/simd/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sheaf::kernels::HWY_NAMESPACE {

// Codes of one block.
void WidenE4M3(const uint8_t* in, float scale, size_t count, float* out) {
  const Lanes gain = Set(scale * kE4M3Gain);
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) Store(Mul(LoadE4M3(in + i), gain), out + i);
  if (i < count) StoreN(Mul(LoadE4M3N(in + i, count - i), gain), out + i, count - i);
}

void WidenScaledRowSimd(const DenseMatrix& w, int row, int first, int count, float* out) {
  const uint8_t* const codes = w.row(row) + first;
  const float* const scales = w.scales.row(row);
  const int end = first + count;
  for (int at = first; at < end;) {
    const int block = w.scales.column(at);
    const int64_t block_end = (block + int64_t{1}) * w.scales.block_columns - w.scales.first_column;
    const int stop = static_cast<int>(std::min<int64_t>(end, block_end));
    WidenE4M3(codes + (at - first), scales[block], static_cast<size_t>(stop - at),
              out + (at - first));
    at = stop;
  }
}

void WidenToFloatSimd(const uint8_t* in, FloatFormat format, size_t count, float* out) {
  const size_t whole = count / kLanes * kLanes;
  const size_t rest = count - whole;
  if (format == FloatFormat::kE4M3) {
    WidenE4M3(in, 1.0f, count, out);
  } else if (format == FloatFormat::kBF16) {
    for (size_t i = 0; i < whole; i += kLanes) Store(LoadBF16(in + 2 * i), out + i);
    if (rest > 0) StoreN(LoadBF16N(in + 2 * whole, rest), out + whole, rest);
  } else {
    for (size_t i = 0; i < whole; i += kLanes) Store(LoadF16(in + 2 * i), out + i);
    if (rest > 0) StoreN(LoadF16N(in + 2 * whole, rest), out + whole, rest);
  }
}

}  // namespace sheaf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sheaf::kernels {

HWY_EXPORT(WidenToFloatSimd);
HWY_EXPORT(WidenScaledRowSimd);

void WidenToFloat(const void* in, FloatFormat format, size_t count, float* out) {
  if (format == FloatFormat::kF32) {
    std::memcpy(out, in, count * sizeof(float));
    return;
  }
  if (internal::UseReference()) return ref::WidenToFloat(in, format, count, out);
  HWY_DYNAMIC_DISPATCH(WidenToFloatSimd)(static_cast<const uint8_t*>(in), format, count, out);
}

void WidenRow(const DenseMatrix& w, int row, int first, int count, float* out) {
  if (w.format != FloatFormat::kE4M3) {
    WidenToFloat(w.row(row) + static_cast<size_t>(first) * FloatBytes(w.format), w.format,
                 static_cast<size_t>(count), out);
    return;
  }
  if (internal::UseReference()) return ref::WidenRow(w, row, first, count, out);
  HWY_DYNAMIC_DISPATCH(WidenScaledRowSimd)(w, row, first, count, out);
}

}  // namespace sheaf::kernels
#endif  // HWY_ONCE
