#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <vector>

#include "tests/kernels/cuda/emulated_experts.h"

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
          std::make_unique<EmulatedExpert>(random_, c.hidden, c.intermediate, c.format, limits_));
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
  std::vector<float> Expected() {
    return RunOnHost(x_.view(), run_.shape.hidden, experts_, rows_);
  }

  void ExpectTheReference(const Case& c) {
    Make(c);
    ExpectSame(Run(), Expected());
  }

  static void ExpectSame(const std::vector<float>& actual, const std::vector<float>& expected) {
    ASSERT_EQ(actual.size(), expected.size());
    for (size_t i = 0; i < actual.size(); ++i) {
      ASSERT_EQ(BitsOf(actual[i]), BitsOf(expected[i])) << "element " << i << " of " << actual.size();
    }
  }

  uint32_t seed_;
  std::mt19937 random_;
  DeviceLimits limits_{.processors = 3};
  std::vector<float> floats_;
  QuantizedRowsBuffer x_;
  std::vector<std::unique_ptr<EmulatedExpert>> owned_;
  std::vector<const EmulatedExpert*> experts_;
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

}  // namespace
}  // namespace sheaf::kernels::cuda
