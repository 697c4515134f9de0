// --lm-head-dtype: what becomes of lm_head when it is loaded, how many bytes are counted for it,
// and how far its logits are from those of the stored one.

#include "model/lm_head.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <cstring>

#include "base/thread_pool.h"
#include "kernels/linear/linear.h"
#include "model/decoder_weights.h"
#include "model/inspect/inspect.h"
#include "model/inspect/rank_weights.h"
#include "model/int8_rows.h"
#include "model/linear_loader.h"
#include "tests/model/tiny_model.h"
#include "tests/model/weight_packers.h"

namespace sheaf {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::MakeTinyModel;
using testing::MatrixOf;
using testing::TempDir;
using testing::TestSeed;
using testing::TinyModel;
using testing::TinyStorage;
using testing::Widened;

// What a matrix [n][k] is after a row by row quantization.
std::vector<float> Int8Of(const std::vector<float>& matrix, int k) {
  std::vector<float> out;
  std::vector<uint8_t> codes(static_cast<size_t>(k));
  std::vector<float> scales(static_cast<size_t>(Int8Groups(k)));
  for (size_t row = 0; row < matrix.size(); row += static_cast<size_t>(k)) {
    QuantizeRowToInt8(matrix.data() + row, k, codes.data(), scales.data());
    for (int i = 0; i < k; ++i)
      out.push_back(scales[static_cast<size_t>(i / kInt8Group)] *
                    static_cast<float>(codes[static_cast<size_t>(i)] - 128));
  }
  return out;
}

std::vector<float> Rows(const std::vector<float>& matrix, int k, int first, int count) {
  return {matrix.begin() + ptrdiff_t{first} * k, matrix.begin() + ptrdiff_t{first + count} * k};
}

class LmHeadTest : public ::testing::Test {
 protected:
  std::unique_ptr<Checkpoint> Write(const testing::TestTensors& tensors) {
    testing::WriteCheckpoint(dir_.path(), tensors);
    auto checkpoint = Checkpoint::Open(dir_.path());
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
    return *std::move(checkpoint);
  }

  absl::StatusOr<std::unique_ptr<DecoderWeights>> Load(const TinyModel& model, LmHeadDtype dtype,
                                                       int rank = 0, int num_ranks = 1,
                                                       int threads = 2) {
    const auto checkpoint = Write(model.tensors);
    ThreadPool pool(threads);
    return DecoderWeights::Load(*checkpoint, model.config,
                                *ShareOfRank(model.config, rank, num_ranks), pool, nullptr, dtype);
  }

  InspectReport Inspect(const TinyModel& model, LmHeadDtype dtype) {
    return InspectTensors(*Write(model.tensors), model.config, 1, dtype);
  }

  std::mt19937_64 random_{TestSeed()};
  TempDir dir_;
};

TEST_F(LmHeadTest, FloatsBecomeIntegersTheSameOnEveryThreadCountAndRank) {
  const TinyModel model = MakeTinyModel(TinyStorage::kGptq, 4, random_);
  const std::vector<float> wanted = Int8Of(model.matrices.at("lm_head"), 128);
  for (const int threads : {1, 2, 5}) {
    const auto weights = Load(model, LmHeadDtype::kInt8, 0, 1, threads);
    ASSERT_TRUE(weights.ok()) << weights.status();
    ASSERT_EQ((*weights)->lm_head.view().storage, kernels::Linear::Storage::kW8);
    EXPECT_EQ(MatrixOf((*weights)->lm_head.view()), wanted);
  }
  // 24 rows are a block and a half.
  for (int rank = 0; rank < 4; ++rank) {
    const auto weights = Load(model, LmHeadDtype::kInt8, rank, 4);
    ASSERT_TRUE(weights.ok()) << weights.status();
    EXPECT_EQ(MatrixOf((*weights)->lm_head.view()), Rows(wanted, 128, 24 * rank, 24));
  }
}

TEST_F(LmHeadTest, ATiedHeadIsMadeBesideTheEmbedding) {
  const TinyModel model = MakeTinyModel(TinyStorage::kBf16, 4, random_, /*tied_head=*/true);
  const auto as_stored = Load(model, LmHeadDtype::kAuto);
  const auto weights = Load(model, LmHeadDtype::kInt8);
  ASSERT_TRUE(weights.ok()) << weights.status();
  const std::vector<float> embedding = Widened(model.tensors.at("model.embed_tokens.weight"));
  EXPECT_EQ(MatrixOf((*weights)->lm_head.view()), Int8Of(embedding, 128));
  EXPECT_EQ((*weights)->embedding.format, kernels::FloatFormat::kBF16);
  std::vector<float> kept(embedding.size());
  kernels::WidenToFloat((*weights)->embedding.data, (*weights)->embedding.format, kept.size(),
                        kept.data());
  EXPECT_EQ(kept, embedding);
  // 96 rows of 128 bytes and a float.
  EXPECT_EQ((*weights)->resident_bytes(), (*as_stored)->resident_bytes() + 96 * 132);
  EXPECT_EQ(Inspect(model, LmHeadDtype::kInt8).processes[0].bytes,
            Inspect(model, LmHeadDtype::kAuto).processes[0].bytes + 96 * 132);
  const auto last = Load(model, LmHeadDtype::kInt8, 3, 4);
  ASSERT_TRUE(last.ok()) << last.status();
  EXPECT_EQ(MatrixOf((*last)->lm_head.view()), Rows(Int8Of(embedding, 128), 128, 72, 24));
}

TEST_F(LmHeadTest, TheBytesOfItAreCounted) {
  const TinyModel model = MakeTinyModel(TinyStorage::kBf16, 4, random_);
  const InspectReport stored = Inspect(model, LmHeadDtype::kAuto);
  const InspectReport report = Inspect(model, LmHeadDtype::kInt8);
  EXPECT_EQ(report.refusal, "");
  EXPECT_THAT(report.remarks, IsEmpty());
  EXPECT_EQ(report.processes[0].bytes, stored.processes[0].bytes - 96 * 256 + 96 * 132);
  EXPECT_EQ(report.processes[1].bytes, stored.processes[1].bytes);
  EXPECT_EQ(report.bytes, stored.bytes);
  const auto checkpoint = Write(model.tensors);
  for (const int num_ranks : {1, 2}) {
    const auto shares = ShareAmongRanks(model.config, num_ranks);
    const auto before = WeightsOfRanks(*checkpoint, model.config, *shares, LmHeadDtype::kAuto);
    const auto after = WeightsOfRanks(*checkpoint, model.config, *shares, LmHeadDtype::kInt8);
    ASSERT_TRUE(after.ok()) << after.status();
    for (int rank = 0; rank < num_ranks; ++rank) {
      EXPECT_EQ((*before)[rank].head, 96u * 256 / num_ranks);
      EXPECT_EQ((*after)[rank].head, 96u * 132 / num_ranks);
      EXPECT_EQ((*after)[rank].total() - (*after)[rank].head,
                (*before)[rank].total() - (*before)[rank].head);
    }
  }
}

TEST_F(LmHeadTest, OneOfIntegersOrFp8StaysAndThatIsRemarkedOnce) {
  TinyModel model = MakeTinyModel(TinyStorage::kBf16, 4, random_);
  model.tensors.erase("lm_head.weight");
  const testing::CodedMatrix matrix = testing::RandomMatrix(96, 128, {}, random_);
  model.tensors.merge(testing::PackGptq(matrix, "lm_head", 1, false));
  const auto weights = Load(model, LmHeadDtype::kInt8);
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_EQ((*weights)->lm_head.view().storage, kernels::Linear::Storage::kW4);
  EXPECT_EQ(MatrixOf((*weights)->lm_head.view()), matrix.Dequantized());
  const InspectReport report = Inspect(model, LmHeadDtype::kInt8);
  EXPECT_THAT(
      report.remarks,
      ElementsAre("--lm-head-dtype int8: lm_head is stored as gptq with 4 bits and stays so"));
  const InspectReport stored = Inspect(model, LmHeadDtype::kAuto);
  EXPECT_THAT(stored.remarks, IsEmpty());
  EXPECT_EQ(report.processes[0].bytes, stored.processes[0].bytes);

  for (const char* suffix : {".qweight", ".qzeros", ".scales", ".g_idx"})
    model.tensors.erase(std::string("lm_head") + suffix);
  model.tensors["lm_head.weight"] = {"F8_E4M3", {96, 128}, std::vector<uint8_t>(96 * 128, 0x38)};
  model.tensors["lm_head.weight_scale"] = {"F32", {1}, testing::BytesOf(std::vector<float>{0.5f})};
  EXPECT_THAT(Inspect(model, LmHeadDtype::kInt8).remarks,
              ElementsAre(HasSubstr("lm_head is stored as fp8 with 8 bits and stays so")));
  const auto fp8 = Load(model, LmHeadDtype::kInt8);
  ASSERT_TRUE(fp8.ok()) << fp8.status();
  EXPECT_EQ((*fp8)->lm_head.view().dense.format, kernels::FloatFormat::kE4M3);
}

TEST_F(LmHeadTest, ARowThatIsNotFiniteIsNamed) {
  TinyModel model = MakeTinyModel(TinyStorage::kBf16, 4, random_);
  auto& bytes = model.tensors.at("lm_head.weight").bytes;
  bytes[2 * (70 * 128 + 9)] = 0x80;
  bytes[2 * (70 * 128 + 9) + 1] = 0x7F;
  EXPECT_THAT(std::string(Load(model, LmHeadDtype::kInt8).status().message()),
              HasSubstr("NaN or Inf at row 70, column 9"));
}

// More rows than are read at once, inputs that end inside a group, every dtype, parts of the rows.
TEST_F(LmHeadTest, PiecesDoNotShow) {
  constexpr int kRows = 3001, kInputs = 200;
  for (const char* dtype : {"F32", "BF16", "F16"}) {
    const testing::TestTensor tensor = testing::PlainTensor(dtype, {kRows, kInputs}, random_);
    const auto checkpoint = Write({{"lm_head.weight", tensor}});
    auto plan = PlanLinear(*checkpoint, {}, "lm_head", kRows, kInputs);
    ASSERT_TRUE(plan.ok()) << plan.status();
    plan->to_int8 = true;
    const std::vector<float> wanted = Int8Of(Widened(tensor), kInputs);
    for (const LinearSlice& slice : {LinearSlice{0, kRows}, LinearSlice{37, 2731}}) {
      auto arena = PackedArena::Reserve(MaxArenaBytes(*plan, slice));
      LoadScratch scratch;
      const auto loaded = LoadPlannedLinear(*checkpoint, *plan, slice, *arena, scratch);
      ASSERT_TRUE(loaded.ok()) << loaded.status();
      EXPECT_EQ(loaded->owned_bytes(), MaxArenaBytes(*plan, slice));
      const std::vector<float> rows = Rows(wanted, kInputs, slice.first_row, slice.num_rows);
      EXPECT_TRUE(MatrixOf(loaded->view()) == rows) << dtype;
    }
  }
}

// What the decision page says: of independent normal weights and inputs.
TEST_F(LmHeadTest, LogitsAreOffByLittleOfTheirSpread) {
  constexpr int kVocabulary = 2048, kHidden = 5120, kPositions = 8;
  std::normal_distribution<float> normal;
  std::vector<uint16_t> weights(size_t{kVocabulary} * kHidden);
  for (uint16_t& bits : weights) {
    const float value = normal(random_);
    uint32_t wide;
    std::memcpy(&wide, &value, 4);
    bits = static_cast<uint16_t>(wide >> 16);
  }
  const auto checkpoint =
      Write({{"lm_head.weight", {"BF16", {kVocabulary, kHidden}, testing::BytesOf(weights)}}});
  std::vector<float> x(size_t{kPositions} * kHidden);
  for (float& value : x) value = normal(random_);
  ThreadPool pool(2);
  kernels::QuantizedRowsBuffer quantized;
  kernels::QuantizeRows(pool, x.data(), kPositions, kHidden, quantized);
  const kernels::Activations activations{kPositions, kHidden, x.data(), quantized.view()};
  std::vector<std::vector<float>> logits;
  for (const bool to_int8 : {false, true}) {
    auto plan = PlanLinear(*checkpoint, {}, "lm_head", kVocabulary, kHidden);
    ASSERT_TRUE(plan.ok()) << plan.status();
    plan->to_int8 = to_int8;
    auto arena = PackedArena::Reserve(MaxArenaBytes(*plan, {}));
    LoadScratch scratch;
    const auto loaded = LoadPlannedLinear(*checkpoint, *plan, {}, *arena, scratch);
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    std::vector<float>& out = logits.emplace_back(size_t{kPositions} * kVocabulary);
    const kernels::LinearCall call{&loaded->view(), &activations, out.data(), kVocabulary};
    kernels::RunLinears(pool, {&call, 1});
  }
  double squares = 0, error_squares = 0, largest = 0;
  for (size_t i = 0; i < logits[0].size(); ++i) {
    const double error = logits[1][i] - logits[0][i];
    squares += double{logits[0][i]} * logits[0][i];
    error_squares += error * error;
    largest = std::max(largest, std::abs(error));
  }
  const double spread = std::sqrt(squares / static_cast<double>(logits[0].size()));
  const double error = std::sqrt(error_squares / static_cast<double>(logits[0].size()));
  std::printf("int8 lm_head: error %.3f %% of the logits' spread, largest %.2f %%\n",
              100 * error / spread, 100 * largest / spread);
  EXPECT_LT(error, 0.008 * spread);
  EXPECT_LT(largest, 0.05 * spread);
}

TEST(LmHeadDtypes, HaveTheNamesOfTheFlag) {
  EXPECT_EQ(ParseLmHeadDtype("auto"), LmHeadDtype::kAuto);
  EXPECT_EQ(ParseLmHeadDtype("int8"), LmHeadDtype::kInt8);
  EXPECT_EQ(ParseLmHeadDtype("int4"), std::nullopt);
  EXPECT_EQ(ParseLmHeadDtype(""), std::nullopt);
}

}  // namespace
}  // namespace sheaf
