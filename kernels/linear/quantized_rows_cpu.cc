#include <algorithm>
#include <cstring>
#include <limits>

#include "kernels/simd/highway_targets.h"
#include "kernels/linear/quantized_rows.h"
#include "kernels/simd/reference_switch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/linear/quantized_rows_cpu.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sheaf::kernels::HWY_NAMESPACE {

using IntLaneTag = hn::RebindToSigned<LaneTag>;
using BitsLaneTag = hn::RebindToUnsigned<LaneTag>;

// One run of 8 inputs is one 128-bit vector of int16. The upper byte of q + 128 is the hi plane,
// the lower byte of q the lo plane.
alignas(16) inline constexpr uint8_t kPlaneBytes[16] = {1, 5, 9, 13, 3, 7, 11, 15,
                                                        0, 4, 8, 12, 2, 6, 10, 14};
using RunTag = hn::FixedTag<int16_t, 8>;
using RunBytesTag = hn::FixedTag<uint8_t, 16>;
using PlaneRunTag = hn::FixedTag<uint8_t, 8>;

// The bits of the largest |x|: of a NaN or Inf when there is one, as these are above every finite
// value.
template <int kCount>
uint32_t LargestMagnitudeBits(const float* x) {
  const BitsLaneTag bits;
  const auto magnitude = hn::Set(bits, 0x7fffffffu);
  auto largest = hn::Zero(bits);
  for (int i = 0; i < kCount; i += kVectorLanes) {
    const auto value = hn::And(hn::BitCast(bits, hn::LoadU(LaneTag(), x + i)), magnitude);
    largest = hn::Max(largest, value);
  }
  return hn::GetLane(hn::MaxOfLanes(bits, largest));
}

void QuantizeGroup(const float* x, int8_t* planes, float* scale, int32_t* sums) {
  const uint32_t largest_bits = LargestMagnitudeBits<kActivationGroup>(x);
  float largest;
  std::memcpy(&largest, &largest_bits, sizeof(largest));
  const bool finite = largest_bits < 0x7f800000u;
  if (!finite || largest < kSmallestGroupMaximum) {
    *scale = finite ? 0.0f : std::numeric_limits<float>::quiet_NaN();
    std::memset(planes, 0, 2 * kActivationGroup);
    std::memset(sums, 0, kSumsPerGroup * sizeof(int32_t));
    return;
  }
  *scale = largest / 32512.0f;
  const auto inverse = hn::Set(LaneTag(), 32512.0f / largest);
  const hn::Rebind<int16_t, IntLaneTag> narrow;
  alignas(64) int16_t q[kActivationGroup];
  for (int i = 0; i < kActivationGroup; i += kVectorLanes) {
    const auto rounded = hn::NearestInt(hn::Mul(hn::LoadU(LaneTag(), x + i), inverse));
    hn::StoreU(hn::DemoteTo(narrow, rounded), narrow, q + i);
  }
  for (int granule = 0; granule < kSumsPerGroup; ++granule) {
    int32_t sum = 0;
    for (int i = 0; i < kSumGranule; ++i) sum += q[granule * kSumGranule + i];
    sums[granule] = sum;
  }
  const auto order = hn::Load(RunBytesTag(), kPlaneBytes);
  const auto low_byte = hn::Set(RunTag(), 0x00ff);
  const auto half = hn::Set(RunTag(), 128);
  for (int run = 0; run < kActivationGroup; run += 8) {
    const auto value = hn::Load(RunTag(), q + run);
    const auto high = hn::AndNot(low_byte, hn::Add(value, half));
    const auto both = hn::BitCast(RunBytesTag(), hn::Or(high, hn::And(value, low_byte)));
    const auto ordered = hn::TableLookupBytes(both, order);
    uint8_t* out = reinterpret_cast<uint8_t*>(planes) + run;
    hn::StoreU(hn::LowerHalf(PlaneRunTag(), ordered), PlaneRunTag(), out);
    hn::StoreU(hn::UpperHalf(PlaneRunTag(), ordered), PlaneRunTag(), out + kActivationGroup);
  }
}

void QuantizeRowSimd(const float* x, int k, int8_t* planes, float* scales, int32_t* sums) {
  for (int group = 0; group < NumGroups(k); ++group) {
    const float* in = x + size_t{kActivationGroup} * group;
    const int count = std::min(kActivationGroup, k - group * kActivationGroup);
    alignas(64) float padded[kActivationGroup];
    if (count < kActivationGroup) {
      std::memcpy(padded, in, count * sizeof(float));
      std::fill(padded + count, padded + kActivationGroup, 0.0f);
      in = padded;
    }
    QuantizeGroup(in, planes + size_t{kGroupBytes} * group, scales + group,
                  sums + size_t{kSumsPerGroup} * group);
  }
}

void SumRowSimd(const int8_t* planes, int k, int32_t* sums) {
  for (int granule = 0; granule < NumGroups(k) * kSumsPerGroup; ++granule) {
    const int8_t* hi = planes + size_t{kGroupBytes} * (granule / kSumsPerGroup) +
                       kSumGranule * (granule % kSumsPerGroup);
    // Plain loops: integer sums have one value, and the compiler makes vectors of them.
    int32_t high = 0;
    int32_t low = 0;
    for (int i = 0; i < kSumGranule; ++i) high += hi[i];
    for (int i = 0; i < kSumGranule; ++i) low += hi[i + kActivationGroup];
    sums[granule] = 256 * high + low;
  }
}

void DequantizeRowSimd(const int8_t* planes, const float* scales, int k, float* x) {
  // Undoes kPlaneBytes: byte 2j is the lo, byte 2j + 1 the hi byte of input j.
  alignas(16) static constexpr uint8_t kInputBytes[16] = {8,  0, 12, 4, 9,  1, 13, 5,
                                                          10, 2, 14, 6, 11, 3, 15, 7};
  const auto order = hn::Load(RunBytesTag(), kInputBytes);
  const hn::Rebind<int16_t, IntLaneTag> narrow;
  for (int group = 0; group < NumGroups(k); ++group) {
    const uint8_t* hi = reinterpret_cast<const uint8_t*>(planes) + size_t{kGroupBytes} * group;
    alignas(64) int16_t q[kActivationGroup];
    for (int run = 0; run < kActivationGroup; run += 8) {
      alignas(16) uint8_t both[16];
      std::memcpy(both, hi + run, 8);
      std::memcpy(both + 8, hi + kActivationGroup + run, 8);
      const auto pairs = hn::TableLookupBytes(hn::Load(RunBytesTag(), both), order);
      // The lo byte is signed: add its sign to the hi byte's unit.
      const auto value = hn::BitCast(RunTag(), pairs);
      const auto low_sign =
          hn::ShiftLeft<8>(hn::And(hn::ShiftRight<7>(value), hn::Set(RunTag(), 1)));
      hn::Store(hn::Sub(value, low_sign), RunTag(), q + run);
    }
    const int first = group * kActivationGroup;
    const int count = std::min(kActivationGroup, k - first);
    const auto scale = hn::Set(LaneTag(), scales[group]);
    alignas(64) float values[kActivationGroup];
    float* out = count == kActivationGroup ? x + first : values;
    for (int i = 0; i < kActivationGroup; i += kVectorLanes) {
      const auto value = hn::PromoteTo(IntLaneTag(), hn::LoadU(narrow, q + i));
      hn::StoreU(hn::Mul(scale, hn::ConvertTo(LaneTag(), value)), LaneTag(), out + i);
    }
    if (out == values) std::memcpy(x + first, values, count * sizeof(float));
  }
}

void QuantizeByteGranule(const float* x, int8_t* bytes, float* scale, int32_t* sum) {
  const uint32_t largest_bits = LargestMagnitudeBits<kSumGranule>(x);
  float largest;
  std::memcpy(&largest, &largest_bits, sizeof(largest));
  const bool finite = largest_bits < 0x7f800000u;
  *sum = 0;
  if (!finite || largest < kSmallestGroupMaximum) {
    *scale = finite ? 0.0f : std::numeric_limits<float>::quiet_NaN();
    std::memset(bytes, 0, kSumGranule);
    return;
  }
  *scale = largest / 127.0f;
  const auto inverse = hn::Set(LaneTag(), 127.0f / largest);
  const hn::Rebind<int16_t, IntLaneTag> narrow;
  alignas(64) int16_t q[kSumGranule];
  for (int i = 0; i < kSumGranule; i += kVectorLanes) {
    const auto rounded = hn::NearestInt(hn::Mul(hn::LoadU(LaneTag(), x + i), inverse));
    hn::StoreU(hn::DemoteTo(narrow, rounded), narrow, q + i);
  }
  for (int i = 0; i < kSumGranule; ++i) *sum += q[i];
  const auto order = hn::Load(RunBytesTag(), kPlaneBytes);
  for (int run = 0; run < kSumGranule; run += 8) {
    const auto value = hn::BitCast(RunBytesTag(), hn::Load(RunTag(), q + run));
    const auto ordered = hn::TableLookupBytes(value, order);
    hn::StoreU(hn::UpperHalf(PlaneRunTag(), ordered), PlaneRunTag(),
               reinterpret_cast<uint8_t*>(bytes) + run);
  }
}

void QuantizeByteRowSimd(const float* x, int k, int8_t* bytes, float* scales, int32_t* sums) {
  for (int granule = 0; granule < NumGroups(k) * kSumsPerGroup; ++granule) {
    const int first = granule * kSumGranule;
    const int count = std::clamp(k - first, 0, kSumGranule);
    alignas(64) float padded[kSumGranule];
    if (count < kSumGranule) {
      std::fill(std::copy_n(x + std::min(first, k), count, padded), padded + kSumGranule, 0.0f);
    }
    QuantizeByteGranule(count < kSumGranule ? padded : x + first, bytes + first, scales + granule,
                        sums + granule);
  }
}

void SumByteRowSimd(const int8_t* bytes, int k, int32_t* sums) {
  for (int granule = 0; granule < NumGroups(k) * kSumsPerGroup; ++granule) {
    int32_t sum = 0;
    for (int i = 0; i < kSumGranule; ++i) sum += bytes[granule * kSumGranule + i];
    sums[granule] = sum;
  }
}

// Plain loops: only products with float or permuted weights ask for it.
void DequantizeByteRowSimd(const int8_t* bytes, const float* scales, int k, float* x) {
  for (int run = 0; run < k; run += 8) {
    float values[8];
    for (int slot = 0; slot < 8; ++slot) {
      values[kPlaneOrder[slot]] = scales[run / kSumGranule] * static_cast<float>(bytes[run + slot]);
    }
    std::memcpy(x + run, values, std::min(8, k - run) * sizeof(float));
  }
}

}  // namespace sheaf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sheaf::kernels {

HWY_EXPORT(QuantizeRowSimd);
HWY_EXPORT(SumRowSimd);
HWY_EXPORT(DequantizeRowSimd);
HWY_EXPORT(QuantizeByteRowSimd);
HWY_EXPORT(SumByteRowSimd);
HWY_EXPORT(DequantizeByteRowSimd);

void QuantizeRow(const float* x, int k, int8_t* planes, float* scales, int32_t* sums) {
  if (internal::UseReference()) return ref::QuantizeRow(x, k, planes, scales, sums);
  HWY_DYNAMIC_DISPATCH(QuantizeRowSimd)(x, k, planes, scales, sums);
}

void SumRow(const int8_t* planes, int k, int32_t* sums) {
  if (internal::UseReference()) return ref::SumRow(planes, k, sums);
  HWY_DYNAMIC_DISPATCH(SumRowSimd)(planes, k, sums);
}

void DequantizeRow(const int8_t* planes, const float* scales, int k, float* x) {
  if (internal::UseReference()) return ref::DequantizeRow(planes, scales, k, x);
  HWY_DYNAMIC_DISPATCH(DequantizeRowSimd)(planes, scales, k, x);
}

void QuantizeByteRow(const float* x, int k, int8_t* bytes, float* scales, int32_t* sums) {
  if (internal::UseReference()) return ref::QuantizeByteRow(x, k, bytes, scales, sums);
  HWY_DYNAMIC_DISPATCH(QuantizeByteRowSimd)(x, k, bytes, scales, sums);
}

void SumByteRow(const int8_t* bytes, int k, int32_t* sums) {
  if (internal::UseReference()) return ref::SumByteRow(bytes, k, sums);
  HWY_DYNAMIC_DISPATCH(SumByteRowSimd)(bytes, k, sums);
}

void DequantizeByteRow(const int8_t* bytes, const float* scales, int k, float* x) {
  if (internal::UseReference()) return ref::DequantizeByteRow(bytes, scales, k, x);
  HWY_DYNAMIC_DISPATCH(DequantizeByteRowSimd)(bytes, scales, k, x);
}

}  // namespace sheaf::kernels
#endif  // HWY_ONCE
