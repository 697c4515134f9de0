#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/attention/kv_format.h"

namespace sheaf::kernels::ref {
namespace {

// The two 8-bit formats by their definition.
struct Fp8 {
  int mantissa_bits;
  int bias;
  uint8_t largest;  // code of the largest finite magnitude
  uint8_t nan;
};
constexpr Fp8 kE4M3 = {3, 7, 0x7E, 0x7F};
constexpr Fp8 kE5M2 = {2, 15, 0x7B, 0x7E};

float DecodeMagnitude(uint8_t code, const Fp8& format) {
  const int exponent = code >> format.mantissa_bits;
  const int mantissa = code & ((1 << format.mantissa_bits) - 1);
  if (exponent == 0) return std::ldexp(float(mantissa), 1 - format.bias - format.mantissa_bits);
  return std::ldexp(float(mantissa + (1 << format.mantissa_bits)),
                    exponent - format.bias - format.mantissa_bits);
}

float Decode(uint8_t byte, const Fp8& format) {
  const uint8_t code = byte & 0x7F;
  float magnitude = DecodeMagnitude(code, format);
  if (code > format.largest) {
    // e5m2 has one infinity, just above its largest value; everything else up there is NaN.
    magnitude = format.mantissa_bits == 2 && code == 0x7C ? std::numeric_limits<float>::infinity()
                                                          : std::numeric_limits<float>::quiet_NaN();
  }
  return (byte & 0x80) != 0 ? -magnitude : magnitude;
}

uint8_t Encode(float x, const Fp8& format) {
  const uint8_t sign = std::signbit(x) ? 0x80 : 0;
  if (std::isnan(x)) return sign | format.nan;
  const float magnitude = std::fabs(x);
  if (magnitude == 0) return sign;
  if (magnitude >= DecodeMagnitude(format.largest, format)) return sign | format.largest;
  // The spacing of the format around x: x / spacing is exact, and nearbyint rounds to even.
  int exponent = 0;
  std::frexp(magnitude, &exponent);
  if (exponent < 2 - format.bias) exponent = 2 - format.bias;
  const int spacing = exponent - 1 - format.mantissa_bits;
  const int rounded = static_cast<int>(std::nearbyint(std::ldexp(magnitude, -spacing)));
  const int biased = exponent - 1 + format.bias;
  // A rounding up to the next power of two carries into the exponent by itself.
  return sign | static_cast<uint8_t>(((biased - 1) << format.mantissa_bits) + rounded);
}

uint16_t EncodeBf16(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  if (std::isnan(x)) return static_cast<uint16_t>((bits >> 16) | 0x40);
  return static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

}  // namespace

void StoreKv(const float* x, size_t count, KvFormat format, void* out) {
  uint8_t* bytes = static_cast<uint8_t*>(out);
  switch (format) {
    case KvFormat::kF32:
      std::memcpy(out, x, count * sizeof(float));
      return;
    case KvFormat::kBF16:
      for (size_t i = 0; i < count; ++i) {
        const uint16_t half = EncodeBf16(x[i]);
        std::memcpy(bytes + 2 * i, &half, 2);
      }
      return;
    case KvFormat::kFp8E4M3:
    case KvFormat::kFp8E5M2:
      const Fp8& fp8 = format == KvFormat::kFp8E4M3 ? kE4M3 : kE5M2;
      for (size_t i = 0; i < count; ++i) bytes[i] = Encode(x[i], fp8);
      return;
  }
}

void LoadKv(const void* in, size_t count, KvFormat format, float* out) {
  const uint8_t* bytes = static_cast<const uint8_t*>(in);
  switch (format) {
    case KvFormat::kF32:
      std::memcpy(out, in, count * sizeof(float));
      return;
    case KvFormat::kBF16:
      for (size_t i = 0; i < count; ++i) {
        uint16_t half;
        std::memcpy(&half, bytes + 2 * i, 2);
        out[i] = std::bit_cast<float>(static_cast<uint32_t>(half) << 16);
      }
      return;
    case KvFormat::kFp8E4M3:
    case KvFormat::kFp8E5M2:
      const Fp8& fp8 = format == KvFormat::kFp8E4M3 ? kE4M3 : kE5M2;
      for (size_t i = 0; i < count; ++i) out[i] = Decode(bytes[i], fp8);
      return;
  }
}

}  // namespace sheaf::kernels::ref
