#include "kernels/attention/kv_format.h"

#include <cstring>
#include <limits>

#include "tests/kernels/every_target.h"

namespace sheaf::kernels {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr KvFormat kFormats[] = {KvFormat::kF32, KvFormat::kBF16, KvFormat::kFp8E4M3,
                                 KvFormat::kFp8E5M2};

uint32_t StoreOne(float x, KvFormat format) {
  uint32_t bits = 0;
  StoreKv(&x, 1, format, &bits);
  return bits;
}

TEST(KvFormat, NamesParseAsInVllmAndUnknownOnesDoNot) {
  EXPECT_EQ(ParseKvFormat("auto"), KvFormat::kBF16);
  EXPECT_EQ(ParseKvFormat("bfloat16"), KvFormat::kBF16);
  EXPECT_EQ(ParseKvFormat("float32"), KvFormat::kF32);
  EXPECT_EQ(ParseKvFormat("fp8"), KvFormat::kFp8E4M3);
  EXPECT_EQ(ParseKvFormat("fp8_e5m2"), KvFormat::kFp8E5M2);
  EXPECT_EQ(ParseKvFormat("fp16"), std::nullopt);
  EXPECT_EQ(ParseKvFormat(""), std::nullopt);
  for (const KvFormat format : kFormats) EXPECT_EQ(ParseKvFormat(KvFormatName(format)), format);
}

TEST(KvFormat, HandComputedCodes) {
  testing::OnEveryTarget([&](const std::string&) {
    EXPECT_EQ(StoreOne(1.0f, KvFormat::kBF16), 0x3F80u);
    EXPECT_EQ(StoreOne(1.00390625f, KvFormat::kBF16), 0x3F80u) << "a tie goes to even";
    EXPECT_EQ(StoreOne(1.01171875f, KvFormat::kBF16), 0x3F82u) << "a tie goes to even";
    EXPECT_EQ(StoreOne(1.0f, KvFormat::kFp8E4M3), 0x38u);
    EXPECT_EQ(StoreOne(-448.0f, KvFormat::kFp8E4M3), 0xFEu);
    EXPECT_EQ(StoreOne(1e9f, KvFormat::kFp8E4M3), 0x7Eu) << "saturates";
    EXPECT_EQ(StoreOne(kInf, KvFormat::kFp8E4M3), 0x7Eu);
    EXPECT_EQ(StoreOne(0x1p-9f, KvFormat::kFp8E4M3), 0x01u) << "smallest subnormal";
    EXPECT_EQ(StoreOne(0x1p-10f, KvFormat::kFp8E4M3), 0x00u) << "half of it ties to zero";
    EXPECT_EQ(StoreOne(0x1.8p-10f, KvFormat::kFp8E4M3), 0x01u);
    EXPECT_EQ(StoreOne(0x1.Fp-7f, KvFormat::kFp8E4M3), 0x08u) << "rounds up to the smallest normal";
    EXPECT_EQ(StoreOne(1.0f, KvFormat::kFp8E5M2), 0x3Cu);
    EXPECT_EQ(StoreOne(57344.0f, KvFormat::kFp8E5M2), 0x7Bu);
    EXPECT_EQ(StoreOne(-kInf, KvFormat::kFp8E5M2), 0xFBu) << "saturates, as vLLM's conversion";
    EXPECT_EQ(StoreOne(-0.0f, KvFormat::kFp8E5M2), 0x80u);
  });
}

TEST(KvFormat, EveryCodeReadsAsItsDefinitionAndStoresBackToItself) {
  testing::OnEveryTarget([&](const std::string&) {
    for (const KvFormat format : {KvFormat::kBF16, KvFormat::kFp8E4M3, KvFormat::kFp8E5M2}) {
      SCOPED_TRACE(std::string(KvFormatName(format)));
      const size_t codes = format == KvFormat::kBF16 ? 65536 : 256;
      std::vector<uint8_t> stored(codes * KvBytes(format));
      for (size_t code = 0; code < codes; ++code) {
        std::memcpy(&stored[code * KvBytes(format)], &code, KvBytes(format));
      }
      std::vector<float> values(codes), expected(codes);
      LoadKv(stored.data(), codes, format, values.data());
      ref::LoadKv(stored.data(), codes, format, expected.data());
      testing::ExpectSameBits(values, expected, codes);
      for (size_t code = 0; code < codes; ++code) {
        if (!std::isfinite(values[code])) continue;
        ASSERT_EQ(StoreOne(values[code], format), code);
      }
    }
  });
}

TEST(KvFormat, Fp8RoundsToTheNearestCodeEvenOnTies) {
  // The nearest of all codes, by trying them all.
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(testing::SeedMessage(seed));
  std::mt19937_64 random(seed);
  for (const KvFormat format : {KvFormat::kFp8E4M3, KvFormat::kFp8E5M2}) {
    std::vector<uint8_t> codes(128);
    for (int i = 0; i < 128; ++i) codes[i] = static_cast<uint8_t>(i);
    std::vector<float> values(128);
    ref::LoadKv(codes.data(), 128, format, values.data());
    for (int round = 0; round < 20000; ++round) {
      float x = std::exp(std::uniform_real_distribution<float>(-14.0f, 12.0f)(random));
      const int at = static_cast<int>(random() % 120);
      if (round % 3 == 0 && std::isfinite(values[at + 1]))
        x = (values[at] + values[at + 1]) / 2;  // a tie
      int best = 0;
      for (int code = 1; code < 128; ++code) {
        if (!std::isfinite(values[code])) continue;
        const double distance = std::fabs(double(values[code]) - x);
        const double best_distance = std::fabs(double(values[best]) - x);
        if (distance < best_distance || (distance == best_distance && code % 2 == 0)) best = code;
      }
      ASSERT_EQ(StoreOne(x, format), static_cast<uint32_t>(best)) << x;
    }
  }
}

TEST(KvFormat, EveryTargetGivesTheReferenceBytes) {
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(testing::SeedMessage(seed));
  std::mt19937_64 random(seed);
  testing::OnEveryTarget([&](const std::string&) {
    for (const KvFormat format : kFormats) {
      SCOPED_TRACE(std::string(KvFormatName(format)));
      for (const size_t n : testing::kLengths) {
        testing::Misaligned<float> x(testing::RandomNormals(random, n, 30.0f));
        for (size_t i = 0; i < n; i += 7)
          x[i] = std::bit_cast<float>(static_cast<uint32_t>(random()));
        std::vector<uint8_t> actual(n * KvBytes(format) + 1, 0xAA), expected = actual;
        StoreKv(x.data(), n, format, actual.data());
        ref::StoreKv(x.data(), n, format, expected.data());
        for (size_t i = 0; i <= n * KvBytes(format); ++i) {  // also: nothing behind the end
          ASSERT_EQ(actual[i], expected[i]) << "byte " << i << ", x = " << std::hexfloat
                                            << x[std::min(n - 1, i / KvBytes(format))];
        }
        std::vector<float> back(n + 1, 5.0f), back_expected = back;
        LoadKv(actual.data(), n, format, back.data());
        ref::LoadKv(actual.data(), n, format, back_expected.data());
        testing::ExpectSameBits(back, back_expected, n + 1);
        for (size_t i = 0; i < n; ++i) ASSERT_EQ(std::isnan(x[i]), std::isnan(back[i]));
      }
    }
  });
}

// What a code of 8 bits stands for, by the definition of its format (OCP OFP8): a sign, an
// exponent, a mantissa. Of e4m3fn the code of all ones is the only NaN, and there is no infinity.
double DefinedFp8(int code, KvFormat format) {
  const bool e5m2 = format == KvFormat::kFp8E5M2;
  const int mantissa_bits = e5m2 ? 2 : 3;
  const int bias = e5m2 ? 15 : 7;
  const int exponent = (code & 127) >> mantissa_bits;
  const int mantissa = code & ((1 << mantissa_bits) - 1);
  const double sign = code < 128 ? 1 : -1;
  if (e5m2 ? exponent == 31 && mantissa != 0 : (code & 127) == 127) return std::nan("");
  if (e5m2 && exponent == 31) return sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign * std::ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits);
}

TEST(KvFormat, Fp8CodesStandForWhatTheirFormatsDefine) {
  EXPECT_EQ(DefinedFp8(0x7E, KvFormat::kFp8E4M3), 448);
  EXPECT_EQ(DefinedFp8(0x7B, KvFormat::kFp8E5M2), 57344);
  EXPECT_EQ(DefinedFp8(0x81, KvFormat::kFp8E4M3), -0x1p-9);
  EXPECT_EQ(DefinedFp8(0x01, KvFormat::kFp8E5M2), 0x1p-16);
  testing::OnEveryTarget([&](const std::string&) {
    for (const KvFormat format : {KvFormat::kFp8E4M3, KvFormat::kFp8E5M2}) {
      SCOPED_TRACE(std::string(KvFormatName(format)));
      for (int code = 0; code < 256; ++code) {
        const uint8_t byte = static_cast<uint8_t>(code);
        const double wanted = DefinedFp8(code, format);
        float value = 0;
        LoadKv(&byte, 1, format, &value);
        if (std::isnan(wanted)) {
          EXPECT_TRUE(std::isnan(value)) << code;
        } else {
          EXPECT_EQ(value, wanted) << code;
          EXPECT_EQ(std::signbit(value), code >= 128) << code;
        }
      }
    }
  });
}

}  // namespace
}  // namespace sheaf::kernels
