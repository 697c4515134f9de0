#include "kernels/vector/silu_mul.h"

#include "tests/kernels/every_target.h"

namespace sheaf::kernels {
namespace {

TEST(SiluMul, HandComputedValues) {
  // silu(0) = 0; silu(ln 3) = ln 3 * 3/4; silu(-ln 3) = -ln 3 / 4; silu(x) -> x and -> 0 far out.
  const float ln3 = 1.0986123f;
  const std::vector<float> gate = {0.0f, ln3, -ln3, 60.0f, -120.0f};
  const std::vector<float> up = {5.0f, 2.0f, 8.0f, 0.5f, 3.0f};
  testing::OnEveryTarget([&](const std::string&) {
    std::vector<float> out(5);
    SiluMul(gate.data(), up.data(), 5, out.data());
    EXPECT_EQ(out[0], 0.0f);
    EXPECT_NEAR(out[1], 1.6479184f, 4e-7);
    EXPECT_NEAR(out[2], -2.1972246f, 5e-7);
    EXPECT_EQ(out[3], 30.0f);
    EXPECT_EQ(out[4], 0.0f);
  });
}

TEST(SiluMul, IsWithinItsErrorBoundOfDoubleMathematics) {
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(testing::SeedMessage(seed));
  std::mt19937_64 random(seed);
  const std::vector<float> gate = testing::RandomNormals(random, 20000, 8.0f);
  const std::vector<float> up = testing::RandomNormals(random, 20000);
  std::vector<float> out(gate.size());
  SiluMul(gate.data(), up.data(), gate.size(), out.data());
  for (size_t i = 0; i < gate.size(); ++i) {
    const double truth = gate[i] / (1.0 + std::exp(-static_cast<double>(gate[i]))) * up[i];
    // exp 1e-7, then three roundings of 6e-8.
    ASSERT_NEAR(out[i], truth, 3e-7 * std::fabs(truth) + 1e-44) << gate[i] << " " << up[i];
  }
}

TEST(SiluMul, EveryTargetGivesTheReferenceBitsAlsoInPlace) {
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(testing::SeedMessage(seed));
  std::mt19937_64 random(seed);
  testing::OnEveryTarget([&](const std::string&) {
    for (const size_t n : testing::kLengths) {
      testing::Misaligned<float> gate(testing::RandomNormals(random, n, 10.0f));
      testing::Misaligned<float> up(testing::RandomNormals(random, n));
      if (n > 2) gate[2] = NAN;
      std::vector<float> expected(n);
      ref::SiluMul(gate.data(), up.data(), n, expected.data());
      testing::Misaligned<float> out(n);
      SiluMul(gate.data(), up.data(), n, out.data());
      testing::ExpectSameBits(out, expected, n);
      SiluMul(gate.data(), up.data(), n, gate.data());
      testing::ExpectSameBits(gate, expected, n);
    }
  });
}

}  // namespace
}  // namespace sheaf::kernels
