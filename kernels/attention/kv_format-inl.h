// Sixteen cached elements to and from sixteen float lanes, without tables and without subnormal
// arithmetic (which costs a hundred cycles an operation on some machines).
// kernels/attention/kv_format.h is the contract.
//
// A per-target header of Highway: include it as kernels/simd/lanes-inl.h.

#if defined(SHEAF_KERNELS_KV_FORMAT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SHEAF_KERNELS_KV_FORMAT_INL_H_
#undef SHEAF_KERNELS_KV_FORMAT_INL_H_
#else
#define SHEAF_KERNELS_KV_FORMAT_INL_H_
#endif

#include "kernels/attention/kv_format.h"
#include "kernels/simd/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sheaf::kernels::HWY_NAMESPACE {

using WordTag = hn::RebindToUnsigned<LaneTag>;
using WordVector = hn::Vec<WordTag>;

template <KvFormat format>
inline constexpr int kMantissaBits = format == KvFormat::kFp8E4M3 ? 3 : 2;
template <KvFormat format>
inline constexpr uint32_t kFp8Bias = format == KvFormat::kFp8E4M3 ? 7 : 15;

// An 8-bit float in the low byte of each word.
template <KvFormat format>
HWY_INLINE LaneVector DecodeFp8(WordVector code) {
  constexpr int kShift = 23 - kMantissaBits<format>;
  constexpr uint32_t kRebias = (127 - kFp8Bias<format>) << 23;
  const WordTag du;
  const LaneTag d;
  const auto magnitude = hn::And(code, hn::Set(du, 0x7F));
  const auto sign = hn::ShiftLeft<24>(hn::And(code, hn::Set(du, 0x80)));
  const auto shifted = hn::ShiftLeft<kShift>(magnitude);
  const auto normal = hn::Add(shifted, hn::Set(du, kRebias));
  // Subnormals of the format: write them with the smallest normal's exponent and take the implicit
  // 1 away.
  const auto smallest = hn::Set(du, kRebias + (1u << 23));
  const auto subnormal =
      hn::Sub(hn::BitCast(d, hn::Add(shifted, smallest)), hn::BitCast(d, smallest));
  const hn::RebindToSigned<LaneTag> di;
  const auto small = hn::RebindMask(
      d, hn::Lt(hn::BitCast(di, magnitude), hn::Set(di, 1 << kMantissaBits<format>)));
  auto result = hn::IfThenElse(small, subnormal, hn::BitCast(d, normal));
  if constexpr (format == KvFormat::kFp8E4M3) {
    const auto nan = hn::RebindMask(d, hn::Eq(magnitude, hn::Set(du, 0x7F)));
    result = hn::IfThenElse(nan, hn::BitCast(d, hn::Set(du, 0x7FC00000)), result);
  } else {
    // The top exponent is infinity and NaN, as in float32: set float32's.
    const auto top = hn::RebindMask(d, hn::Gt(hn::BitCast(di, magnitude), hn::Set(di, 0x7B)));
    const auto special = hn::Or(shifted, hn::Set(du, 0x7F800000));
    result = hn::IfThenElse(top, hn::BitCast(d, special), result);
  }
  return hn::Or(result, hn::BitCast(d, sign));
}

// Round to nearest even, saturating; the code in the low byte of each word.
template <KvFormat format>
HWY_INLINE WordVector EncodeFp8(LaneVector x) {
  constexpr int kShift = 23 - kMantissaBits<format>;
  constexpr uint32_t kLargest = format == KvFormat::kFp8E4M3 ? 0x7E : 0x7B;
  constexpr uint32_t kNan = format == KvFormat::kFp8E4M3 ? 0x7F : 0x7E;
  const WordTag du;
  const LaneTag d;
  const auto bits = hn::BitCast(du, x);
  const auto magnitude = hn::And(bits, hn::Set(du, 0x7FFFFFFF));
  const auto sign = hn::And(hn::ShiftRight<24>(bits), hn::Set(du, 0x80));
  const auto odd = hn::And(hn::ShiftRight<kShift>(magnitude), hn::Set(du, 1));
  const auto rounded = hn::Add(magnitude, hn::Add(odd, hn::Set(du, (1u << (kShift - 1)) - 1)));
  const auto normal = hn::Sub(hn::ShiftRight<kShift>(rounded),
                              hn::Set(du, (127 - kFp8Bias<format>) << kMantissaBits<format>));
  // Below the smallest normal: adding 2^23 spacings makes the hardware round to a multiple of the
  // spacing.
  const auto anchor = hn::Set(du, (127 + 23 + 1 - kFp8Bias<format> - kMantissaBits<format>) << 23);
  const auto subnormal =
      hn::Sub(hn::BitCast(du, hn::Add(hn::BitCast(d, magnitude), hn::BitCast(d, anchor))), anchor);
  const hn::RebindToSigned<LaneTag> di;
  const auto small = hn::Lt(hn::BitCast(di, magnitude),
                            hn::Set(di, static_cast<int32_t>((128 - kFp8Bias<format>) << 23)));
  auto code =
      hn::IfThenElse(hn::RebindMask(du, small), subnormal, hn::Min(normal, hn::Set(du, kLargest)));
  const auto nan = hn::Gt(hn::BitCast(di, magnitude), hn::Set(di, 0x7F800000));
  code = hn::IfThenElse(hn::RebindMask(du, nan), hn::Set(du, kNan), code);
  return hn::Or(code, sign);
}

template <KvFormat format>
HWY_INLINE Lanes LoadKv16(const uint8_t* p) {
  if constexpr (format == KvFormat::kF32) {
    return Load(reinterpret_cast<const float*>(p));
  } else if constexpr (format == KvFormat::kBF16) {
    return LoadBF16(p);
  } else {
    const hn::Rebind<uint8_t, LaneTag> bytes;
    Lanes result;
    for (size_t i = 0; i < kVectors; ++i) {
      const auto code = hn::PromoteTo(WordTag(), hn::LoadU(bytes, p + i * kVectorLanes));
      result.v[i] = DecodeFp8<format>(code);
    }
    return result;
  }
}

template <KvFormat format>
HWY_INLINE void StoreKv16(const Lanes& x, uint8_t* p) {
  const WordTag du;
  for (size_t i = 0; i < kVectors; ++i) {
    if constexpr (format == KvFormat::kF32) {
      hn::StoreU(x.v[i], LaneTag(), reinterpret_cast<float*>(p) + i * kVectorLanes);
    } else if constexpr (format == KvFormat::kBF16) {
      const auto bits = hn::BitCast(du, x.v[i]);
      const auto high = hn::ShiftRight<16>(bits);
      const auto odd = hn::And(high, hn::Set(du, 1));
      const auto rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7FFF))));
      const auto quiet = hn::Or(high, hn::Set(du, 0x40));
      const auto is_number = hn::RebindMask(du, hn::Eq(x.v[i], x.v[i]));  // hn::Ne is false for NaN
      const auto half =
          hn::BitCast(hn::RebindToSigned<LaneTag>(), hn::IfThenElse(is_number, rounded, quiet));
      const hn::Rebind<uint16_t, LaneTag> narrow;
      hn::StoreU(hn::DemoteTo(narrow, half), narrow,
                 reinterpret_cast<uint16_t*>(p) + i * kVectorLanes);
    } else {
      const auto code = hn::BitCast(hn::RebindToSigned<LaneTag>(), EncodeFp8<format>(x.v[i]));
      const hn::Rebind<uint8_t, LaneTag> narrow;
      hn::StoreU(hn::DemoteTo(narrow, code), narrow, p + i * kVectorLanes);
    }
  }
}

template <KvFormat format, bool pad>
HWY_INLINE void LoadKvRowAs(const uint8_t* in, size_t count, float* out) {
  constexpr size_t kBytes = KvBytes(format);
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) Store(LoadKv16<format>(in + i * kBytes), out + i);
  if (i < count) {
    alignas(64) uint8_t padded[kLanes * kBytes] = {};
    std::memcpy(padded, in + i * kBytes, (count - i) * kBytes);
    const Lanes last = LoadKv16<format>(padded);
    if constexpr (pad) {
      Store(last, out + i);
    } else {
      StoreN(last, out + i, count - i);
    }
  }
}

// `count` elements to floats; with `pad` the output is whole groups of 16, zeros behind the end.
template <bool pad>
HWY_INLINE void LoadKvRow(const uint8_t* in, size_t count, KvFormat format, float* out) {
  switch (format) {
    case KvFormat::kF32:
      return LoadKvRowAs<KvFormat::kF32, pad>(in, count, out);
    case KvFormat::kBF16:
      return LoadKvRowAs<KvFormat::kBF16, pad>(in, count, out);
    case KvFormat::kFp8E4M3:
      return LoadKvRowAs<KvFormat::kFp8E4M3, pad>(in, count, out);
    case KvFormat::kFp8E5M2:
      return LoadKvRowAs<KvFormat::kFp8E5M2, pad>(in, count, out);
  }
}

template <KvFormat format>
HWY_INLINE void StoreKvRow(const float* x, size_t count, uint8_t* out) {
  constexpr size_t kBytes = KvBytes(format);
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) StoreKv16<format>(Load(x + i), out + i * kBytes);
  if (i < count) {
    alignas(64) uint8_t padded[kLanes * kBytes];
    StoreKv16<format>(LoadN(x + i, count - i), padded);
    std::memcpy(out + i * kBytes, padded, (count - i) * kBytes);
  }
}

}  // namespace sheaf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SHEAF_KERNELS_KV_FORMAT_INL_H_
