// What kernels compute without a matrix: exp, silu, quantized groups, sums; against the references.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "kernels/cuda/emulation/emulator.h"
#include "kernels/linear/quantized_rows_cuda.cuh"
#include "kernels/vector/exp.h"
#include "kernels/vector/silu_mul.h"
#include "kernels/vector/silu_mul_cuda.cuh"
#include "tests/kernels/random_weights.h"

namespace sheaf::kernels::cuda {
namespace {

std::vector<float> ManyFloats(std::mt19937& random) {
  std::vector<float> values = {0.0f,
                               -0.0f,
                               1.0f,
                               -1.0f,
                               88.72283f,
                               88.72284f,
                               -87.33654f,
                               -87.33655f,
                               1e-40f,
                               std::numeric_limits<float>::infinity(),
                               -std::numeric_limits<float>::infinity(),
                               std::numeric_limits<float>::quiet_NaN(),
                               std::numeric_limits<float>::max(),
                               std::numeric_limits<float>::min()};
  for (int i = 0; i < 100000; ++i) values.push_back(std::bit_cast<float>(uint32_t(random())));
  std::uniform_real_distribution<float> ordinary(-100, 100);
  for (int i = 0; i < 100000; ++i) values.push_back(ordinary(random));
  return values;
}

TEST(DeviceFunctionsTest, ExpAndSiluHaveTheReferenceBits) {
  const uint32_t seed = TestSeed();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  const std::vector<float> values = ManyFloats(random);
  std::vector<float> expected(values.size()), silu(values.size());
  ref::Exp(values.data(), values.size(), expected.data());
  std::vector<float> up = values;
  std::shuffle(up.begin(), up.end(), random);
  ref::SiluMul(values.data(), up.data(), values.size(), silu.data());
  for (size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(BitsOf(Exp(values[i])), BitsOf(expected[i])) << values[i];
    ASSERT_EQ(BitsOf(SiluMul(values[i], up[i])), BitsOf(silu[i])) << values[i] << " " << up[i];
  }
}

TEST(DeviceFunctionsTest, GroupsAndTheirSums) {
  const uint32_t seed = TestSeed();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  for (float factor : {1.0f, 0.0f, 1e-28f, 3e-31f, 1e30f, std::numeric_limits<float>::infinity(),
                       std::numeric_limits<float>::quiet_NaN()}) {
    std::vector<float> x = RandomActivations(random, 128);
    x[random() % 128] *= factor;
    if (std::isfinite(factor) && factor != 1.0f) {
      for (float& value : x) value *= factor;
    }
    std::vector<int8_t> planes(256), expected_planes(256);
    float scale, expected_scale;
    std::vector<int32_t> sums(4), expected_sums(4), again(4, -1);
    DeviceRows rows;
    rows.planes = planes.data();
    rows.scales = &scale;
    rows.sums = sums.data();
    rows.groups = 1;
    ASSERT_TRUE(emulation::Run({}, {.threads = 32}, [&] {
                  float mine[4];
                  for (int j = 0; j < 4; ++j) mine[j] = x[InputOfLane(ThreadIndex(), j)];
                  QuantizeGroup(mine, ThreadIndex(), rows, 0, 0);
                }).ok());
    ref::QuantizeRow(x.data(), 128, expected_planes.data(), &expected_scale, expected_sums.data());
    EXPECT_EQ(planes, expected_planes);
    EXPECT_EQ(sums, expected_sums);
    EXPECT_EQ(std::bit_cast<uint32_t>(scale), std::bit_cast<uint32_t>(expected_scale));
    rows.sums = again.data();
    ASSERT_TRUE(emulation::Run({}, {.threads = kSumThreads}, [&] { SumRows(rows, 1); }).ok());
    EXPECT_EQ(again, expected_sums);
  }
}

}  // namespace
}  // namespace sheaf::kernels::cuda
