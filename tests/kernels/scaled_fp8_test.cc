#include "kernels/linear/scaled_fp8.h"

#include <cstring>
#include <limits>

#include "kernels/attention/kv_format.h"
#include "tests/kernels/every_target.h"

namespace sheaf::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<uint8_t> Stored(const std::vector<float>& x, Fp8Scale kind) {
  std::vector<uint8_t> bytes(ScaledFp8Bytes(x.size()));
  StoreScaledFp8(x.data(), x.size(), kind, bytes.data());
  return bytes;
}

std::vector<float> Rounded(const std::vector<float>& x, Fp8Scale kind) {
  const std::vector<uint8_t> bytes = Stored(x, kind);
  std::vector<float> out(x.size());
  LoadScaledFp8(bytes.data(), x.size(), out.data());
  return out;
}

float ScaleOf(const std::vector<float>& x, Fp8Scale kind) {
  const std::vector<uint8_t> bytes = Stored(x, kind);
  float scale;
  std::memcpy(&scale, bytes.data() + x.size(), sizeof(scale));
  return scale;
}

TEST(ScaledFp8, SizesAndLayout) {
  EXPECT_EQ(ScaledFp8Bytes(128), 132u);
  EXPECT_EQ(ScaledFp8Bytes(512), 528u);
  EXPECT_EQ(ScaledFp8Bytes(129), 137u);
  EXPECT_EQ(ScaledFp8Bytes(1), 5u);
  testing::OnEveryTarget([&](const std::string&) {
    // Codes first: 448 is 0x7E, 1 is 0x38, -2 is 0xC0; then the scale 1.
    const std::vector<uint8_t> bytes = Stored({448, 1, -2}, Fp8Scale::kExact);
    EXPECT_EQ(bytes, (std::vector<uint8_t>{0x7E, 0x38, 0xC0, 0, 0, 0x80, 0x3F}));
  });
}

TEST(ScaledFp8, HandComputedValues) {
  testing::OnEveryTarget([&](const std::string&) {
    // Largest 896: the scale is 2. 100 / 2 = 50 lies between 48 and 52: the tie goes to 48.
    EXPECT_EQ(Rounded({896, 100, -2}, Fp8Scale::kExact), (std::vector<float>{896, 96, -2}));
    // Largest 900: a power of two is rounded up, to 4: 225 becomes 224, 25 becomes 24 (a tie).
    EXPECT_EQ(Rounded({900, 100}, Fp8Scale::kPowerOfTwo), (std::vector<float>{896, 96}));
    // Exactly a power of two stays.
    EXPECT_EQ(Rounded({896, 104}, Fp8Scale::kPowerOfTwo), (std::vector<float>{896, 104}));
    EXPECT_EQ(ScaleOf({896}, Fp8Scale::kPowerOfTwo), 2.0f);
    EXPECT_EQ(ScaleOf({std::nextafter(896.0f, 1e9f)}, Fp8Scale::kPowerOfTwo), 4.0f);
    EXPECT_EQ(ScaleOf({std::nextafter(896.0f, 0.0f)}, Fp8Scale::kPowerOfTwo), 2.0f);
    // The floors: 448 * 2^-126 / 448, and 1e-4 / 448 rounded up to 2^-22.
    EXPECT_EQ(ScaleOf({0, -0.0f}, Fp8Scale::kExact), 0x1p-126f);
    EXPECT_EQ(ScaleOf({1e-40f}, Fp8Scale::kExact), 0x1p-126f);
    EXPECT_EQ(ScaleOf({0}, Fp8Scale::kPowerOfTwo), 0x1p-22f);
    EXPECT_EQ(Rounded({0, 0}, Fp8Scale::kExact), (std::vector<float>{0, 0}));
  });
}

TEST(ScaledFp8, EachGroupOf128HasItsOwnScale) {
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(testing::SeedMessage(seed));
  std::mt19937_64 random(seed);
  std::vector<float> x = testing::RandomNormals(random, 320);
  for (int i = 128; i < 256; ++i) x[i] *= 1e4f;
  for (const Fp8Scale kind : {Fp8Scale::kExact, Fp8Scale::kPowerOfTwo}) {
    const std::vector<float> whole = Rounded(x, kind);
    for (const auto& [begin, end] : {std::pair{0, 128}, {128, 256}, {256, 320}}) {
      const std::vector<float> part(x.begin() + begin, x.begin() + end);
      const std::vector<float> alone = Rounded(part, kind);
      testing::ExpectSameBits(whole.data() + begin, alone, alone.size());
      float amax = 0;
      for (const float value : part) amax = std::max(amax, std::fabs(value));
      for (size_t i = 0; i < part.size(); ++i) {
        // Half a step of a normal value, or of the smallest ones, times a scale of up to 2 / 448.
        ASSERT_NEAR(alone[i], part[i],
                    std::max(std::fabs(part[i]) * 0x1p-4f, amax * 2 / 448 * 0x1p-10f) * 1.00001f);
      }
    }
  }
}

TEST(ScaledFp8, NaNStaysAloneAndInfinityDoesNotCrash) {
  testing::OnEveryTarget([&](const std::string&) {
    for (const Fp8Scale kind : {Fp8Scale::kExact, Fp8Scale::kPowerOfTwo}) {
      const std::vector<float> out = Rounded({NAN, 448, -NAN, -1}, kind);
      EXPECT_TRUE(std::isnan(out[0]));
      EXPECT_EQ(out[1], 448.0f);
      EXPECT_TRUE(std::isnan(out[2]));
      EXPECT_EQ(out[3], -1.0f);
    }
    const std::vector<float> two = Rounded({-kInfinity, 5, 0x1p111f}, Fp8Scale::kPowerOfTwo);
    EXPECT_EQ(two, (std::vector<float>{-kInfinity, 0, 0x1p111f}));
    for (const float value : Rounded({kInfinity, 5, -1}, Fp8Scale::kExact)) {
      EXPECT_TRUE(std::isnan(value));
    }
  });
}

TEST(ScaledFp8, EveryTargetGivesTheReferenceBytes) {
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(testing::SeedMessage(seed));
  std::mt19937_64 random(seed);
  testing::OnEveryTarget([&](const std::string&) {
    for (const size_t n : testing::kLengths) {
      for (const Fp8Scale kind : {Fp8Scale::kExact, Fp8Scale::kPowerOfTwo}) {
        for (const bool any_bits : {false, true}) {
          testing::Misaligned<float> x(testing::RandomNormals(random, n, 1e-3f));
          for (size_t i = 0; any_bits && i < n; i += 3) {
            x[i] = std::bit_cast<float>(static_cast<uint32_t>(random()));
          }
          testing::Misaligned<uint8_t> bytes(ScaledFp8Bytes(n));
          std::vector<uint8_t> expected(bytes.size());
          StoreScaledFp8(x.data(), n, kind, bytes.data());
          ref::StoreScaledFp8(x.data(), n, kind, expected.data());
          for (size_t i = 0; i < expected.size(); ++i) ASSERT_EQ(bytes[i], expected[i]) << i;
          testing::Misaligned<float> out(n);
          std::vector<float> expected_out(n);
          LoadScaledFp8(bytes.data(), n, out.data());
          ref::LoadScaledFp8(expected.data(), n, expected_out.data());
          testing::ExpectSameBits(out, expected_out, n);
        }
      }
    }
  });
}

}  // namespace
}  // namespace sheaf::kernels
