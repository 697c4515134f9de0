// kv_b_proj in the absorbed form: the same values, taken apart by head and transposed.

#include "model/attention/absorbed_kv.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

#include "kernels/simd/half_float.h"
#include "model/linear_loader.h"
#include "tests/model/checkpoint_writer.h"
#include "tests/model/weight_packers.h"
#include "tests/text/random_seed.h"

namespace sheaf {
namespace {

using kernels::FloatFormat;

constexpr int kHeads = 3, kNope = 40, kV = 24, kRank = 256;
constexpr int kRows = kHeads * (kNope + kV);

// The matrices that a head's parts stand for: [rank][nope_dim] and [v_dim][rank].
std::vector<float> KeyUp(const AbsorbedKv& kv_b, int head, int rank, int nope_dim) {
  std::vector<float> all(static_cast<size_t>(rank) * nope_dim);
  for (const AbsorbedKv::KeyPart& part : kv_b.key_up(head)) {
    const std::vector<float> values = testing::MatrixOf(part.linear);
    for (int j = 0; j < part.linear.n(); ++j) {
      for (int i = 0; i < nope_dim; ++i) {
        const float scale = part.input_scales == nullptr ? 1.0f : part.input_scales[i];
        all[(part.first_column + j) * nope_dim + i] = scale * values[j * nope_dim + i];
      }
    }
  }
  return all;
}

void ExpectHeadsOf(const AbsorbedKv& kv_b, const std::vector<float>& wanted) {
  for (int head = 0; head < kHeads; ++head) {
    const int first = head * (kNope + kV);
    const std::vector<float> key = KeyUp(kv_b, head, kRank, kNope);
    const std::vector<float> value = testing::MatrixOf(kv_b.value_up(head));
    for (int j = 0; j < kRank; ++j) {
      for (int i = 0; i < kNope; ++i)
        ASSERT_EQ(key[j * kNope + i], wanted[(first + i) * kRank + j]);
      for (int i = 0; i < kV; ++i)
        ASSERT_EQ(value[i * kRank + j], wanted[(first + kNope + i) * kRank + j]);
    }
  }
}

// Through a file, as the router loads it.
AbsorbedKv Absorb(const testing::TestTensors& tensors) {
  const testing::TempDir dir;
  testing::WriteCheckpoint(dir.path(), tensors);
  const auto checkpoint = Checkpoint::Open(dir.path());
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  const auto loaded = LoadLinear(**checkpoint, {}, "kv_b_proj", kRows, kRank);
  EXPECT_TRUE(loaded.ok()) << loaded.status();
  auto absorbed = AbsorbedKv::Build(loaded->view(), kHeads, kNope, kV);
  EXPECT_TRUE(absorbed.ok()) << absorbed.status();
  return *std::move(absorbed);
}

TEST(AbsorbedKv, TakesHeadsApartByHand) {
  // One head: a key row of 2 and two value rows, rank 2.
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  kernels::Linear kv_b;
  kv_b.storage = kernels::Linear::Storage::kDense;
  kv_b.dense = {3, 2, FloatFormat::kF32, values.data()};
  const auto absorbed = AbsorbedKv::Build(kv_b, 1, 1, 2);
  ASSERT_TRUE(absorbed.ok()) << absorbed.status();
  ASSERT_EQ(absorbed->key_up(0).size(), 1u);
  EXPECT_EQ(KeyUp(*absorbed, 0, 2, 1), (std::vector<float>{1, 2}));
  EXPECT_EQ(testing::MatrixOf(absorbed->value_up(0)), (std::vector<float>{3, 4, 5, 6}));
}

class AbsorbedKvOfFiles : public ::testing::Test {
 protected:
  void SetUp() override { RecordProperty("seed", std::to_string(seed_)); }
  const uint64_t seed_ = testing::RandomSeed();
  std::mt19937_64 random_{seed_};
};

TEST_F(AbsorbedKvOfFiles, SymmetricNibblesStayNibbles) {
  for (const int group : {32, 64, 128, 0}) {
    SCOPED_TRACE(group);
    const testing::CodedMatrix matrix = testing::RandomMatrix(
        kRows, kRank, {.group_size = group, .negative_scales = true}, random_);
    const AbsorbedKv kv_b = Absorb(testing::PackPackQuantized(matrix, "kv_b_proj", false, false));
    EXPECT_EQ(kv_b.value_up(0).storage, kernels::Linear::Storage::kW4);
    EXPECT_EQ(kv_b.key_up(0).size(), static_cast<size_t>(kRank / (group == 0 ? 128 : group)));
    ExpectHeadsOf(kv_b, matrix.Dequantized());
    // Key inputs are padded to 128, value rows to 16.
    EXPECT_LT(kv_b.memory_bytes(), 2.5 * kRows * kRank);
  }
}

TEST_F(AbsorbedKvOfFiles, SymmetricBytesStayBytes) {
  for (const int group : {32, 64, 128, 0}) {
    SCOPED_TRACE(group);
    const testing::CodedMatrix matrix = testing::RandomMatrix(
        kRows, kRank, {.group_size = group, .negative_scales = true, .bits = 8}, random_);
    const AbsorbedKv kv_b = Absorb(testing::PackPackQuantized(matrix, "kv_b_proj", false, false));
    EXPECT_EQ(kv_b.value_up(0).storage, kernels::Linear::Storage::kW8);
    EXPECT_EQ(kv_b.key_up(0)[0].linear.storage, kernels::Linear::Storage::kW8);
    EXPECT_EQ(kv_b.key_up(0).size(), static_cast<size_t>(kRank / (group == 0 ? 128 : group)));
    ExpectHeadsOf(kv_b, matrix.Dequantized());
  }
}

TEST_F(AbsorbedKvOfFiles, EightBitZeroPointsAndOrdersBecomeFloatsExactly) {
  const testing::CodedMatrix zeros =
      testing::RandomMatrix(kRows, kRank, {.symmetric = false, .bits = 8}, random_);
  ExpectHeadsOf(Absorb(testing::PackIntQuantized(zeros, "kv_b_proj", true, false)),
                zeros.Dequantized());
  const testing::CodedMatrix permuted =
      testing::RandomMatrix(kRows, kRank, {.permuted_groups = true, .bits = 8}, random_);
  ExpectHeadsOf(Absorb(testing::PackGptq(permuted, "kv_b_proj", 1, true)), permuted.Dequantized());
}

// Zero points, or inputs grouped out of order: floats in which no value changes.
TEST_F(AbsorbedKvOfFiles, OthersBecomeFloatsExactly) {
  const testing::CodedMatrix zeros =
      testing::RandomMatrix(kRows, kRank, {.symmetric = false}, random_);
  const AbsorbedKv asymmetric = Absorb(testing::PackPackQuantized(zeros, "kv_b_proj", true, false));
  EXPECT_EQ(asymmetric.value_up(0).dense.format, FloatFormat::kF32);
  ExpectHeadsOf(asymmetric, zeros.Dequantized());

  const testing::CodedMatrix permuted =
      testing::RandomMatrix(kRows, kRank, {.permuted_groups = true}, random_);
  ExpectHeadsOf(Absorb(testing::PackPackQuantized(permuted, "kv_b_proj", false, true)),
                permuted.Dequantized());

  // Scales of 8 bits times a nibble fit f16.
  const testing::CodedMatrix coarse = testing::RandomMatrix(
      kRows, kRank, {.scale_dtype = "BF16", .permuted_groups = true}, random_);
  const AbsorbedKv half = Absorb(testing::PackPackQuantized(coarse, "kv_b_proj", false, true));
  EXPECT_EQ(half.value_up(0).dense.format, FloatFormat::kF16);
  ExpectHeadsOf(half, coarse.Dequantized());
}

TEST(HalfFloat, RoundsToNearestEven) {
  using kernels::F16ToFloat;
  using kernels::FloatToF16;
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = F16ToFloat(static_cast<uint16_t>(bits));
    if (value != value) continue;  // NaN
    ASSERT_EQ(FloatToF16(value), bits);
  }
  EXPECT_EQ(F16ToFloat(FloatToF16(1.0f + 0x1p-11f)), 1.0f);              // a tie, to even
  EXPECT_EQ(F16ToFloat(FloatToF16(1.0f + 0x1.8p-10f)), 1.0f + 0x1p-9f);  // a tie, to even
  EXPECT_EQ(F16ToFloat(FloatToF16(1.0f + 0x1.1p-11f)), 1.0f + 0x1p-10f);
  EXPECT_EQ(F16ToFloat(FloatToF16(65519.0f)), 65504.0f);
  EXPECT_EQ(FloatToF16(65520.0f), 0x7c00);
  EXPECT_EQ(F16ToFloat(FloatToF16(0x1p-25f)), 0.0f);
  EXPECT_EQ(F16ToFloat(FloatToF16(0x1.8p-25f)), 0x1p-24f);
}

}  // namespace
}  // namespace sheaf
