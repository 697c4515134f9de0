#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "tests/kernels/cuda/tested_experts.h"

namespace sheaf::kernels::cuda {
namespace {

using emulation::Schedule;

struct Case {
  int hidden = 256;
  int intermediate = 128;
  int tokens = 4;
  std::vector<int> counts = {1};  // rows of each expert
  ExpertFormat format;
  bool permuted = false;
};

class ExpertFfnCudaTest : public testing::Test {
 protected:
  ExpertFfnCudaTest() : seed_(TestSeed()), random_(seed_) {
    EmulateWith({.schedule = Schedule::kRandom, .seed = seed_});
  }
  void SetUp() override {
    const std::string missing = MissingDevice();
    if (!missing.empty()) GTEST_SKIP() << "no device: " << missing;
    limits_ = LimitsOfDevice(limits_);
  }
  void TearDown() override {
    if (HasFailure()) ADD_FAILURE() << "repeat with SHEAF_TEST_SEED=" << seed_;
  }

  // Makes x, experts and rows of a case; Run and Expected use them.
  void Make(const Case& c) {
    experts_.clear();
    rows_.clear();
    floats_ = RandomActivations(random_, size_t(c.tokens) * c.hidden);
    ThreadPool pool(1);
    QuantizeRows(pool, floats_.data(), c.tokens, c.hidden, x_);
    int pairs = 0;
    for (int count : c.counts) {
      owned_.push_back(
          std::make_unique<TestedExpert>(random_, c.hidden, c.intermediate, c.format, limits_));
      experts_.push_back(owned_.back().get());
      rows_.emplace_back(count);
      for (int32_t& row : rows_.back()) row = static_cast<int32_t>(random_() % c.tokens);
      pairs += count;
    }
    run_.shape = {.hidden = c.hidden,
                  .intermediate = c.intermediate,
                  .max_tokens = c.tokens,
                  .max_jobs = static_cast<int>(c.counts.size()),
                  .max_rows = pairs,
                  .permuted = c.permuted};
    run_.limits = limits_;
  }

  std::vector<float> Run() { return RunOnDevice(run_, x_.view(), experts_, rows_); }
  std::vector<float> Expected() { return RunOnHost(x_.view(), run_.shape.hidden, experts_, rows_); }

  void ExpectTheReference(const Case& c) {
    Make(c);
    ExpectSame(Run(), Expected());
  }

  static void ExpectSame(const std::vector<float>& actual, const std::vector<float>& expected) {
    ASSERT_EQ(actual.size(), expected.size());
    for (size_t i = 0; i < actual.size(); ++i) {
      ASSERT_EQ(BitsOf(actual[i]), BitsOf(expected[i]))
          << "element " << i << " of " << actual.size();
    }
  }

  uint32_t seed_;
  std::mt19937 random_;
  DeviceLimits limits_{.processors = 3};
  std::vector<float> floats_;
  QuantizedRowsBuffer x_;
  std::vector<std::unique_ptr<TestedExpert>> owned_;
  std::vector<const TestedExpert*> experts_;
  std::vector<std::vector<int32_t>> rows_;
  BatchRun run_;
};

TEST_F(ExpertFfnCudaTest, OneRow) { ExpectTheReference({.format = FormatOf({})}); }

TEST_F(ExpertFfnCudaTest, EveryFormat) {
  for (int segment : {32, 64, 128}) {
    for (ScaleFormat scale : {ScaleFormat::kF16, ScaleFormat::kBF16, ScaleFormat::kF32}) {
      for (bool zeros : {false, true}) {
        SCOPED_TRACE(testing::Message() << "segment " << segment << " scale "
                                        << static_cast<int>(scale) << " zeros " << zeros);
        const ExpertFormat format =
            FormatOf({.segment = segment, .scale_format = scale, .zeros = zeros, .bias = zeros});
        ExpectTheReference({.hidden = 384, .counts = {1, 11}, .format = format});
        ExpectTheReference({.hidden = 256, .counts = {20}, .format = format});
      }
    }
  }
}

TEST_F(ExpertFfnCudaTest, OneTo512Rows) {
  for (int count : {2, 7, 8, 9, 15, 16, 17, 24, 63, 64, 65, 128, 200, 512}) {
    SCOPED_TRACE(count);
    ExpectTheReference({.hidden = 128, .tokens = 40, .counts = {count}, .format = FormatOf({})});
  }
}

TEST_F(ExpertFfnCudaTest, FewAndManyRowsAndEmptyExpertsInOneBatch) {
  ExpectTheReference({.hidden = 256,
                      .intermediate = 256,
                      .tokens = 30,
                      .counts = {0, 3, 70, 0, 16, 1, 17, 0},
                      .format = FormatOf({.zeros = true})});
  ExpectTheReference({.counts = {0, 0, 0}, .format = FormatOf({})});
}

TEST_F(ExpertFfnCudaTest, AsManyExpertsAsTheCheckpointsHave) {
  for (int experts : {96, 120, 160, 192}) {
    SCOPED_TRACE(experts);
    Case c = {.hidden = 128, .intermediate = 128, .tokens = 8, .format = FormatOf({.segment = 64})};
    c.counts.assign(experts, 0);
    for (int pair = 0; pair < 8 * c.tokens; ++pair) ++c.counts[random_() % experts];
    ExpectTheReference(c);
    c.counts.assign(experts, 0);
    c.counts[random_() % experts] = 100;  // all on one
    ExpectTheReference(c);
  }
}

TEST_F(ExpertFfnCudaTest, SizesThatFillNoTile) {
  for (int intermediate : {8, 120, 136, 200, 272}) {
    for (int hidden : {120, 328}) {
      SCOPED_TRACE(testing::Message() << hidden << " x " << intermediate);
      ExpectTheReference({.hidden = hidden,
                          .intermediate = intermediate,
                          .counts = {3},
                          .format = FormatOf({.zeros = true, .bias = true})});
    }
  }
  ExpectTheReference(
      {.hidden = 328, .intermediate = 200, .counts = {21}, .format = FormatOf({.segment = 32})});
}

TEST_F(ExpertFfnCudaTest, Permutations) {
  const IntegerOptions plain = {.segment = 64, .zeros = true};
  IntegerOptions permuted = plain;
  permuted.permutation = true;
  const ExpertFormat formats[] = {
      {.gate = permuted, .up = permuted, .down = permuted, .same_permutation = true},
      {.gate = permuted, .up = permuted, .down = plain, .same_permutation = false},
      {.gate = permuted, .up = plain, .down = permuted, .same_permutation = false},
      {.gate = plain, .up = permuted, .down = plain, .same_permutation = false},
      {.gate = plain, .up = plain, .down = permuted, .same_permutation = false},
  };
  for (size_t i = 0; i < std::size(formats); ++i) {
    SCOPED_TRACE(i);
    ExpectTheReference({.hidden = 296,
                        .intermediate = 136,
                        .counts = {2, 0, 19, 9},
                        .format = formats[i],
                        .permuted = true});
  }
}

TEST_F(ExpertFfnCudaTest, GateUpAndDownOfDifferentFormats) {
  const ExpertFormat format = {.gate = {.segment = 32, .scale_format = ScaleFormat::kF32},
                               .up = {.segment = 128, .zeros = true},
                               .down = {.segment = 64, .scale_format = ScaleFormat::kBF16}};
  ExpectTheReference({.hidden = 384, .intermediate = 256, .counts = {4, 30}, .format = format});
  const ExpertFormat same_segment = {.gate = {.segment = 64, .scale_format = ScaleFormat::kF32},
                                     .up = {.segment = 64, .zeros = true},
                                     .down = {.segment = 32}};
  ExpectTheReference(
      {.hidden = 384, .intermediate = 256, .counts = {4, 30}, .format = same_segment});
}

TEST_F(ExpertFfnCudaTest, SumsAreMadeHereWhenTheyDoNotComeAlong) {
  run_.sums_come_along = false;
  ExpectTheReference(
      {.hidden = 320, .tokens = 5, .counts = {2, 17}, .format = FormatOf({.zeros = true})});
}

TEST_F(ExpertFfnCudaTest, NanInfAndTinyInputs) {
  Make({.hidden = 256,
        .intermediate = 256,
        .tokens = 6,
        .counts = {6, 18},
        .format = FormatOf({.bias = true})});
  for (size_t e = 0; e < rows_.size(); ++e) {
    for (size_t i = 0; i < rows_[e].size(); ++i) rows_[e][i] = static_cast<int32_t>(i % 6);
  }
  floats_[5] = std::numeric_limits<float>::quiet_NaN();
  floats_[256 + 200] = std::numeric_limits<float>::infinity();
  for (int i = 0; i < 256; ++i) floats_[2 * 256 + i] = 0.0f;
  for (int i = 0; i < 256; ++i) floats_[3 * 256 + i] = i == 7 ? 2e-30f : 1e-33f;
  for (int i = 0; i < 256; ++i)
    floats_[4 * 256 + i] *= 1e20f;  // beyond the range of exp, and of float
  ThreadPool pool(1);
  QuantizeRows(pool, floats_.data(), 6, 256, x_);
  const std::vector<float> actual = Run();
  ExpectSame(actual, Expected());
  for (float value : actual) {
    if (value == value) continue;
    ASSERT_EQ(std::bit_cast<uint32_t>(value), 0x7fc00000u);
  }
  EXPECT_TRUE(actual[0] != actual[0]);
}

TEST_F(ExpertFfnCudaTest, TheBytesDependOnNothingButRowAndWeights) {
  Make({.hidden = 1408,
        .intermediate = 256,
        .tokens = 9,
        .counts = {1, 12, 33},
        .format = FormatOf({.zeros = true})});
  const std::vector<float> expected = Expected();
  const DeviceLimits most = {.block_shared_bytes = 227 * 1024};
  for (Schedule schedule :
       {Schedule::kInOrder, Schedule::kReverse, Schedule::kWarpFirst, Schedule::kRandom}) {
    for (const auto& [processors, block_bytes, processor_bytes] :
         {std::tuple(1, 99, 100), std::tuple(2, 163, 164), std::tuple(132, 227, 228)}) {
      run_.limits = {.processors = processors,
                     .block_shared_bytes = std::min(block_bytes * size_t{1024},
                                                    LimitsOfDevice(most).block_shared_bytes),
                     .processor_shared_bytes = processor_bytes * size_t{1024}};
      EmulateWith({.schedule = schedule,
                   .seed = random_(),
                   .shared_limit = run_.limits.block_shared_bytes});
      ExpectSame(Run(), expected);
    }
  }
  // One row of an expert with many, alone.
  run_.limits = limits_;
  const std::vector<float> alone = RunOnDevice(run_, x_.view(), {experts_[2]}, {{rows_[2][32]}});
  ExpectSame(alone, std::vector<float>(expected.end() - 1408, expected.end()));
}

// A CUDA graph is captured once, for the largest batch of its shape.
TEST_F(ExpertFfnCudaTest, ABatchSmallerThanItsLaunch) {
  Make({.hidden = 256, .intermediate = 256, .counts = {2, 3}, .format = FormatOf({})});
  run_.shape.max_rows = 300;
  run_.shape.max_jobs = 20;
  run_.shape.max_tokens = 64;
  run_.launch_head =
      PlanHead{.tiles = {0, 40, 30, 0, 20, 25}, .num_tokens = 64, .part_bytes = 1344};
  ExpectSame(Run(), Expected());
}

TEST_F(ExpertFfnCudaTest, WidthsOfGlm46) {
  ExpectTheReference(
      {.hidden = 5120, .intermediate = 1536, .tokens = 2, .counts = {2}, .format = FormatOf({})});
}

TEST_F(ExpertFfnCudaTest, WidthsOfGlm51) {
  ExpectTheReference(
      {.hidden = 6144, .intermediate = 2048, .tokens = 2, .counts = {1}, .format = FormatOf({})});
}

}  // namespace
}  // namespace sheaf::kernels::cuda
