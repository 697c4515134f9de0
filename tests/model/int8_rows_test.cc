// A row as 8-bit codes: by hand, and within the error that the contract names.

#include "model/int8_rows.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "tests/model/checkpoint_writer.h"

namespace sheaf {
namespace {

struct Quantized {
  std::vector<uint8_t> codes;
  std::vector<float> scales;
};

Quantized Quantize(const std::vector<float>& row) {
  const int k = static_cast<int>(row.size());
  Quantized out = {std::vector<uint8_t>(row.size(), 77),
                   std::vector<float>(static_cast<size_t>(Int8Groups(k)), -1.0f)};
  QuantizeRowToInt8(row.data(), k, out.codes.data(), out.scales.data());
  return out;
}

TEST(Int8Rows, AreWhatAHandComputes) {
  // The first group's largest is 63.5, so a step is 0.5; the second one's is 254: a step of 2.
  std::vector<float> row(130, 0.0f);
  const std::vector<float> first = {-63.5f, 0.25f, 0.75f, -0.75f, 1.25f, 0.3f, -0.2f, 63.4f};
  std::copy(first.begin(), first.end(), row.begin());
  row[127] = 1.0f;
  row[128] = 254.0f;
  row[129] = -3.1f;
  const Quantized got = Quantize(row);
  EXPECT_EQ(got.scales, (std::vector<float>{0.5f, 2.0f}));
  std::vector<uint8_t> wanted(130, 128);
  // -127, 0.5 -> 0, 1.5 -> 2, -1.5 -> -2, 2.5 -> 2, 0.6 -> 1, -0.4 -> 0, 126.8 -> 127
  const std::vector<uint8_t> codes = {1, 128, 130, 126, 130, 129, 128, 255};
  std::copy(codes.begin(), codes.end(), wanted.begin());
  wanted[127] = 130;
  wanted[128] = 255;
  wanted[129] = 126;  // -1.55 -> -2
  EXPECT_EQ(got.codes, wanted);
}

TEST(Int8Rows, GroupsTooSmallForAScaleAreZeros) {
  const float smallest = std::numeric_limits<float>::min();
  for (const float largest : {0.0f, std::numeric_limits<float>::denorm_min(), 126 * smallest}) {
    const Quantized got = Quantize({-largest, largest, 0.0f});
    EXPECT_EQ(got.scales, std::vector<float>{0.0f});
    EXPECT_EQ(got.codes, (std::vector<uint8_t>{128, 128, 128}));
  }
  const Quantized got = Quantize({-127 * smallest, 0.0f, smallest});
  EXPECT_EQ(got.scales, std::vector<float>{smallest});
  EXPECT_EQ(got.codes, (std::vector<uint8_t>{1, 128, 129}));
}

TEST(Int8Rows, AreOffByHalfAStepAtMost) {
  const uint64_t seed = testing::TestSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  for (const int k : {1, 127, 128, 129, 640, 1000}) {
    for (const float spread : {1e-30f, 1e-3f, 1.0f, 1e37f}) {
      std::vector<float> row(static_cast<size_t>(k));
      for (float& value : row) value = spread * normal(random);
      const Quantized got = Quantize(row);
      for (int i = 0; i < k; ++i) {
        const double scale = got.scales[static_cast<size_t>(i / kInt8Group)];
        const int code = got.codes[static_cast<size_t>(i)];
        EXPECT_GE(code, 1);
        EXPECT_LE(std::abs(row[static_cast<size_t>(i)] - scale * (code - 128)),
                  scale * (0.5 + std::ldexp(1.0, -16)))
            << k << " inputs, spread " << spread << ", input " << i;
      }
    }
  }
  const float most = std::numeric_limits<float>::max();
  EXPECT_EQ(Quantize({most, -most}).codes, (std::vector<uint8_t>{255, 1}));
}

}  // namespace
}  // namespace sheaf
