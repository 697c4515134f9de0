// Every storage of a Linear gives the matrix that its tool quantized, whatever group size, scale
// dtype, zero points, order of groups, sharding and part of the matrix. The tools' side is
// tests/model/weight_packers.h.

#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "absl/strings/str_format.h"
#include "model/linear_loader.h"
#include "tests/model/checkpoint_writer.h"
#include "tests/model/weight_packers.h"

namespace sheaf {
namespace {

using kernels::Linear;
using testing::CodedMatrix;
using testing::MatrixOf;
using testing::MatrixOptions;
using testing::RandomMatrix;
using testing::TempDir;
using testing::TestSeed;
using testing::TestTensors;

enum class Packing { kGptqV1, kGptqV2, kAwq, kPackQuantized, kIntQuantized };

struct FormatCase {
  std::string name;
  Packing packing;
  MatrixOptions options;
  bool with_g_idx = false;
};

TestTensors Pack(const FormatCase& format, const CodedMatrix& matrix) {
  switch (format.packing) {
    case Packing::kGptqV1:
      return testing::PackGptq(matrix, "m", 1, format.with_g_idx);
    case Packing::kGptqV2:
      return testing::PackGptq(matrix, "m", 0, format.with_g_idx);
    case Packing::kAwq:
      return testing::PackAwq(matrix, "m");
    case Packing::kIntQuantized:
      return testing::PackIntQuantized(matrix, "m", !format.options.symmetric, format.with_g_idx);
    case Packing::kPackQuantized:
      break;
  }
  return testing::PackPackQuantized(matrix, "m", !format.options.symmetric, format.with_g_idx);
}

QuantizationHints HintsOf(const FormatCase& format) {
  QuantizationHints hints;
  const bool compressed_tensors =
      format.packing == Packing::kPackQuantized || format.packing == Packing::kIntQuantized;
  hints.method = compressed_tensors ? "compressed-tensors" : "gptq";
  hints.checkpoint_format = format.packing == Packing::kGptqV2 ? "gptq_v2" : "";
  hints.group_size = format.options.group_size == 0 ? -1 : format.options.group_size;
  hints.symmetric = format.options.symmetric;
  hints.desc_act = format.options.permuted_groups;
  return hints;
}

// The expected part of a [n][k] matrix.
std::vector<float> Part(const std::vector<float>& matrix, int k, const LinearSlice& slice) {
  std::vector<float> out;
  for (int row = slice.first_row; row < slice.first_row + slice.num_rows; ++row) {
    const auto first = matrix.begin() + static_cast<ptrdiff_t>(row) * k + slice.first_column;
    out.insert(out.end(), first, first + slice.num_columns);
  }
  return out;
}

std::shared_ptr<PackedArena> Arena() { return *PackedArena::Reserve(64 << 20); }

class WeightFormats : public ::testing::TestWithParam<FormatCase> {};

TEST_P(WeightFormats, GivesTheQuantizedMatrix) {
  const FormatCase& format = GetParam();
  const uint64_t seed = TestSeed();
  SCOPED_TRACE(absl::StrFormat("SHEAF_TEST_SEED=%d", seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 6; ++round) {
    const int group = format.options.group_size == 0 ? 64 : format.options.group_size;
    const int n = 8 * static_cast<int>(1 + random() % 9),
              k = group * static_cast<int>(2 + random() % 4);
    SCOPED_TRACE(absl::StrFormat("n %d, k %d", n, k));
    const CodedMatrix matrix = RandomMatrix(n, k, format.options, random);
    const TempDir dir;
    testing::WriteCheckpoint(dir.path(), Pack(format, matrix), 1 + static_cast<int>(random() % 3));
    const auto checkpoint = Checkpoint::Open(dir.path());
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    const auto linear = LoadLinear(**checkpoint, HintsOf(format), "m", n, k);
    ASSERT_TRUE(linear.ok()) << linear.status();
    const Linear& view = linear->view();
    const bool eight_bit = format.options.bits == 8;
    ASSERT_EQ(view.storage, eight_bit ? Linear::Storage::kW8 : Linear::Storage::kW4);
    EXPECT_EQ(MatrixOf(view), matrix.Dequantized());
    EXPECT_EQ(reinterpret_cast<uintptr_t>(eight_bit ? view.w8.codes : view.w4.codes) % 64, 0u);
    EXPECT_EQ(view.permutation() != nullptr, format.options.permuted_groups);
    const auto plan = PlanLinear(**checkpoint, HintsOf(format), "m", n, k);
    EXPECT_LE(linear->owned_bytes(), MaxArenaBytes(*plan, {}));
    EXPECT_EQ(view.bias, nullptr);
    if (format.options.symmetric) {
      EXPECT_EQ(eight_bit ? view.w8.zeros : view.w4.zeros, nullptr)
          << "zero points of 8 or 128 are the kernels' cheap case";
    }
  }
}

template <int kBits>
void ExpectZeroPadding(const kernels::PackedIntegers<kBits>& w) {
  constexpr int kStepWords = 16 * kBits / 4;
  const auto* const words = reinterpret_cast<const uint32_t*>(w.codes);
  for (int block = 0; block < w.row_blocks(); ++block) {
    for (int step = 0; step < w.steps(); ++step) {
      for (int word = 0; word < kStepWords; ++word) {
        if (block * 16 + word % 16 < w.n && step * 8 < w.k) continue;
        EXPECT_EQ(words[(block * w.steps() + step) * kStepWords + word], 0u);
      }
    }
  }
}

TEST_P(WeightFormats, PaddingRowsAndInputsAreZero) {
  const FormatCase& format = GetParam();
  std::mt19937_64 random(TestSeed());
  const int n = 24, k = format.options.group_size <= 96 ? 96 : 384;
  const CodedMatrix matrix = RandomMatrix(n, k, format.options, random);
  const TempDir dir;
  testing::WriteCheckpoint(dir.path(), Pack(format, matrix));
  const auto checkpoint = Checkpoint::Open(dir.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const auto linear = LoadLinear(**checkpoint, HintsOf(format), "m", n, k);
  ASSERT_TRUE(linear.ok()) << linear.status();
  if (linear->view().storage == Linear::Storage::kW8) {
    ExpectZeroPadding(linear->view().w8);
  } else {
    ExpectZeroPadding(linear->view().w4);
  }
}

TEST_P(WeightFormats, APartHasTheRowsAndColumnsAskedFor) {
  const FormatCase& format = GetParam();
  std::mt19937_64 random(TestSeed());
  const int group = format.options.group_size == 0 ? 512 : format.options.group_size;
  const int n = 72, k = std::max(512, 2 * group);
  const CodedMatrix matrix = RandomMatrix(n, k, format.options, random);
  const TempDir dir;
  testing::WriteCheckpoint(dir.path(), Pack(format, matrix));
  const auto checkpoint = Checkpoint::Open(dir.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const auto plan = PlanLinear(**checkpoint, HintsOf(format), "m", n, k);
  ASSERT_TRUE(plan.ok()) << plan.status();
  LoadScratch scratch;
  for (LinearSlice slice : {LinearSlice{8, 40, 0, k}, LinearSlice{5, 19, 0, k},
                            LinearSlice{0, n, 128, 256}, LinearSlice{3, 18, k - 128, 128}}) {
    const auto linear = LoadPlannedLinear(**checkpoint, *plan, slice, Arena(), scratch);
    if (format.options.permuted_groups && slice.num_columns != k) {
      EXPECT_FALSE(linear.ok()) << "columns that g_idx spreads cannot be cut";
      continue;
    }
    ASSERT_TRUE(linear.ok()) << linear.status();
    EXPECT_EQ(MatrixOf(linear->view()), Part(matrix.Dequantized(), k, slice));
  }
  EXPECT_FALSE(LoadPlannedLinear(**checkpoint, *plan, {0, n, 64, 128}, Arena(), scratch).ok())
      << "a cut inside an activation group";
  EXPECT_FALSE(LoadPlannedLinear(**checkpoint, *plan, {n - 8, 16, 0, k}, Arena(), scratch).ok())
      << "rows past the end";
}

TEST_P(WeightFormats, PiecesMakeTheSameBytesAsTheWhole) {
  const FormatCase& format = GetParam();
  std::mt19937_64 random(TestSeed());
  const int group = format.options.group_size == 0 ? 512 : format.options.group_size;
  const int n = 72, k = std::max(512, 2 * group);
  const CodedMatrix matrix = RandomMatrix(n, k, format.options, random);
  const TempDir dir;
  testing::WriteCheckpoint(dir.path(), Pack(format, matrix));
  const auto checkpoint = Checkpoint::Open(dir.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const auto plan = PlanLinear(**checkpoint, HintsOf(format), "m", n, k);
  ASSERT_TRUE(plan.ok()) << plan.status();
  LoadScratch scratch;
  scratch.piece_bytes = 1;  // as few rows as there can be
  for (LinearSlice slice : {LinearSlice{0, n, 0, k}, LinearSlice{5, 61, 0, k}}) {
    const auto linear = LoadPlannedLinear(**checkpoint, *plan, slice, Arena(), scratch);
    ASSERT_TRUE(linear.ok()) << linear.status();
    EXPECT_EQ(MatrixOf(linear->view()), Part(matrix.Dequantized(), k, slice));
  }
}

MatrixOptions Options(int group_size, const std::string& dtype = "F16") {
  MatrixOptions options;
  options.group_size = group_size;
  options.scale_dtype = dtype;
  return options;
}

MatrixOptions Asymmetric(MatrixOptions options) {
  options.symmetric = false;
  return options;
}

MatrixOptions Negative(MatrixOptions options) {
  options.negative_scales = true;
  return options;
}

MatrixOptions EightBits(MatrixOptions options) {
  options.bits = 8;
  return options;
}

MatrixOptions Permuted(MatrixOptions options) {
  options.permuted_groups = true;
  return options;
}

INSTANTIATE_TEST_SUITE_P(
    All, WeightFormats,
    ::testing::Values(
        FormatCase{"Gptq", Packing::kGptqV1, Options(128), true},
        FormatCase{"GptqWithoutGIdx", Packing::kGptqV1, Negative(Options(128))},
        FormatCase{"GptqGroup32", Packing::kGptqV1, Options(32), true},
        FormatCase{"GptqGroup64Asymmetric", Packing::kGptqV1, Asymmetric(Options(64)), true},
        FormatCase{"GptqGroup96", Packing::kGptqV1, Options(96)},
        FormatCase{"GptqGroup256", Packing::kGptqV1, Asymmetric(Options(256))},
        FormatCase{"GptqOneGroupARow", Packing::kGptqV1, Asymmetric(Options(0))},
        FormatCase{"GptqDescAct", Packing::kGptqV1, Permuted(Options(128)), true},
        FormatCase{"GptqDescActGroup32Asymmetric", Packing::kGptqV1,
                   Permuted(Asymmetric(Options(32))), true},
        FormatCase{"GptqV2", Packing::kGptqV2, Options(128), true},
        FormatCase{"GptqV2Asymmetric", Packing::kGptqV2, Asymmetric(Options(128, "BF16")), true},
        FormatCase{"GptqFloatScales", Packing::kGptqV1, Negative(Options(64, "F32"))},
        FormatCase{"Awq", Packing::kAwq, Options(128)},
        FormatCase{"AwqAsymmetric", Packing::kAwq, Asymmetric(Negative(Options(64)))},
        FormatCase{"PackQuantized", Packing::kPackQuantized, Options(128, "BF16")},
        FormatCase{"PackQuantizedAsymmetric", Packing::kPackQuantized,
                   Asymmetric(Options(32, "BF16"))},
        FormatCase{"PackQuantizedGIdx", Packing::kPackQuantized, Permuted(Options(128, "BF16")),
                   true},
        FormatCase{"PackQuantizedGIdxAsymmetric", Packing::kPackQuantized,
                   Permuted(Asymmetric(Options(64))), true},
        FormatCase{"PackQuantizedChannel", Packing::kPackQuantized, Options(0, "F32")},
        FormatCase{"Gptq8", Packing::kGptqV1, EightBits(Options(128)), true},
        FormatCase{"Gptq8NegativeScales", Packing::kGptqV1, EightBits(Negative(Options(64)))},
        FormatCase{"Gptq8Asymmetric", Packing::kGptqV1, EightBits(Asymmetric(Options(32))), true},
        FormatCase{"Gptq8OneGroupARow", Packing::kGptqV1, EightBits(Asymmetric(Options(0)))},
        FormatCase{"Gptq8DescAct", Packing::kGptqV1,
                   EightBits(Permuted(Asymmetric(Options(128)))), true},
        FormatCase{"Gptq8V2", Packing::kGptqV2, EightBits(Options(128)), true},
        FormatCase{"Gptq8V2Asymmetric", Packing::kGptqV2, EightBits(Asymmetric(Options(96)))},
        FormatCase{"PackQuantized8", Packing::kPackQuantized, EightBits(Options(128, "BF16"))},
        FormatCase{"PackQuantized8Channel", Packing::kPackQuantized, EightBits(Options(0, "BF16"))},
        FormatCase{"PackQuantized8Asymmetric", Packing::kPackQuantized,
                   EightBits(Asymmetric(Options(32, "BF16")))},
        FormatCase{"PackQuantized8GIdxAsymmetric", Packing::kPackQuantized,
                   EightBits(Permuted(Asymmetric(Options(64)))), true},
        FormatCase{"IntQuantizedChannel", Packing::kIntQuantized, EightBits(Options(0, "BF16"))},
        FormatCase{"IntQuantizedChannelAsymmetric", Packing::kIntQuantized,
                   EightBits(Asymmetric(Options(0, "F32")))},
        FormatCase{"IntQuantizedGroups", Packing::kIntQuantized,
                   EightBits(Asymmetric(Options(128)))},
        FormatCase{"IntQuantizedGIdx", Packing::kIntQuantized,
                   EightBits(Permuted(Options(128, "BF16"))), true}),
    [](const auto& instance) { return instance.param.name; });

TEST(WeightFormats, PackQuantizedRowsMayEndInsideAWord) {
  std::mt19937_64 random(TestSeed());
  const CodedMatrix matrix = RandomMatrix(19, 77, Options(0, "BF16"), random);
  const TempDir dir;
  TestTensors tensors = testing::PackPackQuantized(matrix, "m", false, false);
  // Whatever lies behind the last input of a row must not reach the packed weights.
  tensors["m.weight_packed"].bytes[4 * 10 - 1] |= 0xF0;
  testing::WriteCheckpoint(dir.path(), tensors);
  const auto checkpoint = Checkpoint::Open(dir.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const auto linear = LoadLinear(**checkpoint, {}, "m", 19, 77);
  ASSERT_TRUE(linear.ok()) << linear.status();
  EXPECT_EQ(MatrixOf(linear->view()), matrix.Dequantized());
  const auto* const words = reinterpret_cast<const uint32_t*>(linear->view().w4.codes);
  EXPECT_EQ(words[9 * 16] >> 20, 0u);
}

// k of no whole step of 8, in every format that has such a matrix.
TEST(WeightFormats, EightBitRowsMayEndInsideAStep) {
  std::mt19937_64 random(TestSeed());
  const MatrixOptions options = EightBits(Options(0, "BF16"));
  const CodedMatrix ragged = RandomMatrix(19, 77, options, random),
                    words = RandomMatrix(19, 76, options, random);
  TestTensors packed = testing::PackPackQuantized(ragged, "m", false, false);
  // Whatever lies behind the last input of a row must not reach the packed weights.
  packed["m.weight_packed"].bytes[4 * 20 - 1] = 0xFF;
  const std::pair<TestTensors, const CodedMatrix*> files[] = {
      {packed, &ragged},
      {testing::PackIntQuantized(ragged, "m", false, false), &ragged},
      {testing::PackGptq(words, "m", 1, false), &words}};
  for (const auto& [tensors, matrix] : files) {
    SCOPED_TRACE(tensors.begin()->first);
    const TempDir dir;
    testing::WriteCheckpoint(dir.path(), tensors);
    const auto checkpoint = Checkpoint::Open(dir.path());
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    const auto linear = LoadLinear(**checkpoint, {}, "m", 19, matrix->k);
    ASSERT_TRUE(linear.ok()) << linear.status();
    EXPECT_EQ(MatrixOf(linear->view()), matrix->Dequantized());
    // Of row 0's step 9: inputs 77 and 79 are past the end.
    const uint8_t* const step = linear->view().w8.codes + size_t{128} * 9;
    EXPECT_EQ(step[64 + 2], 0) << "input 77";
    EXPECT_EQ(step[64 + 3], 0) << "input 79";
  }
}

// Stored bytes of v1 are one less, modulo 256: 255 means 0.
TEST(WeightFormats, EightBitZeroPointsWrapAt256) {
  std::mt19937_64 random(TestSeed());
  CodedMatrix matrix = RandomMatrix(16, 128, EightBits(Asymmetric(Options(128))), random);
  matrix.zeros[3] = 0;
  matrix.zeros[4] = 255;
  const TempDir dir;
  testing::WriteCheckpoint(dir.path(), testing::PackGptq(matrix, "m", 1, true));
  const auto checkpoint = Checkpoint::Open(dir.path());
  QuantizationHints hints;
  hints.method = "gptq";
  hints.symmetric = false;
  const auto linear = LoadLinear(**checkpoint, hints, "m", 16, 128);
  ASSERT_TRUE(linear.ok()) << linear.status();
  EXPECT_EQ(MatrixOf(linear->view()), matrix.Dequantized());
}

TEST(WeightFormats, EightBitZeroPointsMayBeABytePerRow) {
  std::mt19937_64 random(TestSeed());
  const CodedMatrix matrix =
      RandomMatrix(19, 256, EightBits(Asymmetric(Options(64, "BF16"))), random);
  TestTensors tensors = testing::PackPackQuantized(matrix, "m", true, false);
  tensors["m.weight_zero_point"] = testing::UnpackedZeros(matrix);
  const TempDir dir;
  testing::WriteCheckpoint(dir.path(), tensors);
  const auto checkpoint = Checkpoint::Open(dir.path());
  const auto linear = LoadLinear(**checkpoint, {}, "m", 19, 256);
  ASSERT_TRUE(linear.ok()) << linear.status();
  EXPECT_EQ(MatrixOf(linear->view()), matrix.Dequantized());
}

// Square matrices, and those whose shapes in one format are another's of the transposed matrix: the
// words' shape beside n and k leaves one reading.
TEST(WeightFormats, ShapesTellTheBitsAndTheLayout) {
  std::mt19937_64 random(TestSeed());
  for (const auto& [n, k] : {std::pair{128, 128}, {32, 256}, {256, 32}, {64, 128}, {128, 64}}) {
    for (const int bits : {4, 8}) {
      MatrixOptions options = Options(32);
      options.bits = bits;
      const CodedMatrix matrix = RandomMatrix(n, k, options, random);
      std::vector<TestTensors> files = {testing::PackGptq(matrix, "m", 1, true),
                                        testing::PackPackQuantized(matrix, "m", false, false)};
      if (bits == 4) files.push_back(testing::PackAwq(matrix, "m"));
      for (const TestTensors& tensors : files) {
        SCOPED_TRACE(absl::StrFormat("%d x %d, %d bits, %s", n, k, bits, tensors.begin()->first));
        const TempDir dir;
        testing::WriteCheckpoint(dir.path(), tensors);
        const auto checkpoint = Checkpoint::Open(dir.path());
        const auto linear = LoadLinear(**checkpoint, {}, "m", n, k);
        ASSERT_TRUE(linear.ok()) << linear.status();
        EXPECT_EQ(MatrixOf(linear->view()), matrix.Dequantized());
      }
    }
  }
}

TEST(WeightFormats, SymmetricFilesIgnoreTheirZeroPoints) {
  std::mt19937_64 random(TestSeed());
  const CodedMatrix matrix = RandomMatrix(16, 128, Options(128), random);
  const TempDir dir;
  testing::WriteCheckpoint(dir.path(), testing::PackGptq(matrix, "m", 0, true));  // v2 zeros
  const auto checkpoint = Checkpoint::Open(dir.path());
  QuantizationHints v1;
  v1.method = "gptq";
  v1.checkpoint_format = "gptq";  // which would read 8 as 9
  const auto linear = LoadLinear(**checkpoint, v1, "m", 16, 128);
  ASSERT_TRUE(linear.ok()) << linear.status();
  EXPECT_EQ(MatrixOf(linear->view()), matrix.Dequantized());
}

struct AutoRoundCase {
  std::string packing_format;
  Packing packing;
};

TEST(WeightFormats, AutoRoundPackingFormatsSayWhatTheirZeroPointsMean) {
  std::mt19937_64 random(TestSeed());
  const MatrixOptions options = Asymmetric(Negative(Options(128)));
  for (const AutoRoundCase& format : {AutoRoundCase{"auto_round:auto_gptq", Packing::kGptqV1},
                                      AutoRoundCase{"auto_round:gptqmodel", Packing::kGptqV2},
                                      AutoRoundCase{"auto_round", Packing::kGptqV2},
                                      AutoRoundCase{"auto_round:auto_awq", Packing::kAwq}}) {
    SCOPED_TRACE(format.packing_format);
    const CodedMatrix matrix = RandomMatrix(32, 256, options, random);
    const TempDir dir;
    testing::WriteCheckpoint(dir.path(), Pack({"", format.packing, options}, matrix));
    const auto checkpoint = Checkpoint::Open(dir.path());
    QuantizationHints hints;
    hints.method = "auto-round";
    hints.packing_format = format.packing_format;
    hints.symmetric = false;
    const auto linear = LoadLinear(**checkpoint, hints, "m", 32, 256);
    ASSERT_TRUE(linear.ok()) << linear.status();
    EXPECT_EQ(MatrixOf(linear->view()), matrix.Dequantized());
    hints.packing_format = "auto_round:unheard_of";
    if (format.packing != Packing::kAwq) {
      EXPECT_FALSE(LoadLinear(**checkpoint, hints, "m", 32, 256).ok());
    }
  }
}

TEST(WeightFormats, AGIdxOfZerosMeansThatNobodySetIt) {
  std::mt19937_64 random(TestSeed());
  const CodedMatrix matrix = RandomMatrix(16, 256, Options(128), random);
  TestTensors tensors = testing::PackGptq(matrix, "m", 1, true);
  std::fill(tensors["m.g_idx"].bytes.begin(), tensors["m.g_idx"].bytes.end(), uint8_t{0});
  const TempDir dir;
  testing::WriteCheckpoint(dir.path(), tensors);
  const auto checkpoint = Checkpoint::Open(dir.path());
  const auto linear = LoadLinear(**checkpoint, {}, "m", 16, 256);
  ASSERT_TRUE(linear.ok()) << linear.status();
  EXPECT_EQ(MatrixOf(linear->view()), matrix.Dequantized());
}

class PlainFormats : public ::testing::TestWithParam<std::string> {};

TEST_P(PlainFormats, AreKeptAsTheyAreWithTheirBias) {
  std::mt19937_64 random(TestSeed());
  const TempDir dir;
  const TestTensors tensors = {{"m.weight", testing::PlainTensor(GetParam(), {10, 12}, random)},
                               {"m.bias", testing::PlainTensor(GetParam(), {10}, random)}};
  testing::WriteCheckpoint(dir.path(), tensors);
  const auto checkpoint = Checkpoint::Open(dir.path());
  const auto linear = LoadLinear(**checkpoint, {}, "m", 10, 12);
  ASSERT_TRUE(linear.ok()) << linear.status();
  const Linear& view = linear->view();
  EXPECT_EQ(view.storage, Linear::Storage::kDense);
  const size_t bytes = tensors.at("m.weight").bytes.size();
  EXPECT_EQ(std::memcmp(view.dense.data, tensors.at("m.weight").bytes.data(), bytes), 0);
  EXPECT_GE(linear->owned_bytes(), bytes);
  EXPECT_EQ(MatrixOf(view), testing::Widened(tensors.at("m.weight")));
  EXPECT_EQ(std::vector<float>(view.bias, view.bias + 10), testing::Widened(tensors.at("m.bias")));

  const auto plan = PlanLinear(**checkpoint, {}, "m", 10, 12);
  const LinearSlice slice = {2, 5, 3, 7};
  LoadScratch scratch;
  const auto part = LoadPlannedLinear(**checkpoint, *plan, slice, Arena(), scratch);
  ASSERT_TRUE(part.ok()) << part.status();
  EXPECT_EQ(MatrixOf(part->view()), Part(testing::Widened(tensors.at("m.weight")), 12, slice));
}

INSTANTIATE_TEST_SUITE_P(Dtypes, PlainFormats, ::testing::Values("BF16", "F16", "F32"));

}  // namespace
}  // namespace sheaf
