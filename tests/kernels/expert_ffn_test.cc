#include "kernels/experts/expert_ffn.h"

#include <cmath>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/simd/cpu_target.h"
#include "tests/kernels/random_weights.h"

namespace sheaf::kernels {
namespace {

struct Expert {
  std::unique_ptr<RandomLinear> gate, up, down;
  ExpertWeights weights;
};

template <typename Options>
std::unique_ptr<Expert> MakeExpert(std::mt19937& random, int hidden, int intermediate,
                                   Options options) {
  auto expert = std::make_unique<Expert>();
  options.n = intermediate;
  options.k = hidden;
  expert->gate = std::make_unique<RandomLinear>(random, options);
  expert->up = std::make_unique<RandomLinear>(random, options);
  options.n = hidden;
  options.k = intermediate;
  expert->down = std::make_unique<RandomLinear>(random, options);
  expert->weights = {expert->gate->linear(), expert->up->linear(), expert->down->linear()};
  return expert;
}

class ExpertFfnTest : public testing::TestWithParam<std::string> {
 protected:
  ExpertFfnTest() : seed_(TestSeed()), random_(seed_) {}
  void SetUp() override { ASSERT_TRUE(ForceCpuTarget(GetParam()).ok()); }
  void TearDown() override {
    ASSERT_TRUE(ForceCpuTarget("auto").ok());
    if (HasFailure()) ADD_FAILURE() << "repeat with SHEAF_TEST_SEED=" << seed_;
  }

  void MakeInput(int num_rows, int hidden, ActivationBits bits = ActivationBits::k16) {
    floats_ = RandomActivations(random_, size_t(num_rows) * hidden);
    buffer_ = QuantizedRowsBuffer(bits);
    QuantizeRows(pool_, floats_.data(), num_rows, hidden, buffer_);
  }

  std::vector<int32_t> RandomRows(int count, int num_rows) {
    std::vector<int32_t> rows(count);
    for (int32_t& row : rows) row = static_cast<int32_t>(random_() % num_rows);
    return rows;
  }

  uint32_t seed_;
  std::mt19937 random_;
  ThreadPool pool_{2};
  ExpertScratch scratch_;
  std::vector<float> floats_;
  QuantizedRowsBuffer buffer_;
};

INSTANTIATE_TEST_SUITE_P(Targets, ExpertFfnTest, testing::ValuesIn(AvailableCpuTargets()),
                         [](const auto& param) { return param.param; });

TEST_P(ExpertFfnTest, EveryStorageInOneCallAsTheReference) {
  for (const auto& [intermediate, bits] :
       {std::pair{128, ActivationBits::k16}, std::pair{200, ActivationBits::k8},
        std::pair{272, ActivationBits::k16}, std::pair{272, ActivationBits::k8}}) {
    const int hidden = 320;
    const int num_rows = 50;
    MakeInput(num_rows, hidden, bits);
    std::vector<std::unique_ptr<Expert>> experts;
    experts.push_back(MakeExpert(random_, hidden, intermediate, W4Options{.segment = 128}));
    experts.push_back(
        MakeExpert(random_, hidden, intermediate, DenseOptions{.format = FloatFormat::kBF16}));
    experts.push_back(MakeExpert(random_, hidden, intermediate,
                                 W4Options{.segment = 32, .zeros = true, .bias = true}));
    experts.push_back(
        MakeExpert(random_, hidden, intermediate, W4Options{.segment = 64, .permutation = true}));
    experts.push_back(MakeExpert(random_, hidden, intermediate,
                                 DenseOptions{.format = FloatFormat::kF16, .bias = true}));
    experts.push_back(
        MakeExpert(random_, hidden, intermediate, W4Options{.scale_format = ScaleFormat::kBF16}));
    // One expert of mixed storage: its down is 4-bit, its gate and up are floats.
    experts[4]->weights.down = experts[0]->weights.down;
    experts.push_back(MakeExpert(random_, hidden, intermediate,
                                 IntegerOptions{.segment = 64, .zeros = true, .bits = 8}));
    // 4-bit gate and up, 8-bit down.
    experts.push_back(MakeExpert(random_, hidden, intermediate, IntegerOptions{.bits = 4}));
    experts[7]->weights.down = experts[6]->weights.down;
    experts.push_back(MakeExpert(random_, hidden, intermediate,
                                 IntegerOptions{.segment = 32, .permutation = true, .bits = 8}));
    const int counts[] = {43, 7, 1, 13, 3, 0, 15, 2, 4};
    std::vector<std::vector<int32_t>> rows;
    std::vector<std::vector<float>> out, expected;
    for (int count : counts) {
      rows.push_back(RandomRows(count, num_rows));
      out.emplace_back(size_t(count) * hidden, -1.0f);
      expected.emplace_back(size_t(count) * hidden, -2.0f);
    }
    std::vector<ExpertJob> jobs;
    for (size_t e = 0; e < experts.size(); ++e) {
      jobs.push_back({&experts[e]->weights, rows[e], out[e].data()});
    }
    RunExperts(pool_, buffer_.view(), jobs, scratch_);
    for (size_t e = 0; e < experts.size(); ++e) {
      ref::RunExpert(buffer_.view(), {&experts[e]->weights, rows[e], expected[e].data()});
      for (size_t i = 0; i < out[e].size(); ++i) {
        ASSERT_EQ(BitsOf(out[e][i]), BitsOf(expected[e][i])) << "expert " << e << " element " << i;
      }
    }
  }
}

TEST_P(ExpertFfnTest, CloseToTheFormulaInDoubles) {
  const int hidden = 256;
  const int intermediate = 136;
  MakeInput(2, hidden);
  const auto expert =
      MakeExpert(random_, hidden, intermediate, W4Options{.segment = 64, .zeros = true});
  std::vector<float> out(2 * hidden);
  const std::vector<int32_t> rows = {1, 0};
  const ExpertJob job{&expert->weights, rows, out.data()};
  RunExperts(pool_, buffer_.view(), {&job, 1}, scratch_);
  for (int i = 0; i < 2; ++i) {
    std::vector<double> inner(intermediate);
    double inner_square = 0;
    for (int j = 0; j < intermediate; ++j) {
      double gate = 0;
      double up = 0;
      for (int h = 0; h < hidden; ++h) {
        gate += expert->gate->weight(j, h) * floats_[rows[i] * hidden + h];
        up += expert->up->weight(j, h) * floats_[rows[i] * hidden + h];
      }
      inner[j] = gate / (1 + std::exp(-gate)) * up;
      inner_square += inner[j] * inner[j];
    }
    for (int h = 0; h < hidden; ++h) {
      double sum = 0;
      double weight_square = 0;
      for (int j = 0; j < intermediate; ++j) {
        sum += expert->down->weight(h, j) * inner[j];
        weight_square += expert->down->weight(h, j) * expert->down->weight(h, j);
      }
      ASSERT_NEAR(out[i * hidden + h], sum, 2e-3 * std::sqrt(inner_square * weight_square))
          << i << " " << h;
    }
  }
}

TEST_P(ExpertFfnTest, ATokenDoesNotDependOnTheOtherJobsNorOnThreads) {
  const int hidden = 384;
  const int intermediate = 256;
  MakeInput(20, hidden, random_() % 2 == 0 ? ActivationBits::k16 : ActivationBits::k8);
  const auto a = MakeExpert(random_, hidden, intermediate, W4Options{});
  const auto b = MakeExpert(random_, hidden, intermediate, W4Options{});
  const std::vector<int32_t> many = RandomRows(30, 20);
  std::vector<float> out_a(30 * hidden), out_b(30 * hidden), alone(hidden);
  const ExpertJob jobs[] = {{&a->weights, many, out_a.data()}, {&b->weights, many, out_b.data()}};
  ThreadPool three(3);
  RunExperts(three, buffer_.view(), jobs, scratch_);
  for (int i : {0, 11, 29}) {
    const ExpertJob job{&b->weights, std::span(many).subspan(i, 1), alone.data()};
    ThreadPool one(1);
    RunExperts(one, buffer_.view(), {&job, 1}, scratch_);
    for (int h = 0; h < hidden; ++h) ASSERT_EQ(BitsOf(alone[h]), BitsOf(out_b[i * hidden + h]));
  }
}

// From one item an expert to items of one row block and of some of its rows: as many threads as ask
// for them (kernels/experts/expert_split.h). One row of tiles, two and more.
TEST_P(ExpertFfnTest, AnyCutOfTheWorkGivesTheSameBits) {
  for (int i = 0; i < 8; ++i) {
    const ActivationBits bits = i % 2 == 0 ? ActivationBits::k16 : ActivationBits::k8;
    const int hidden = 128 + static_cast<int>(random_() % 250);
    const int intermediate = 100 + static_cast<int>(random_() % 300);
    const int num_rows = 40;
    SCOPED_TRACE(testing::Message() << "hidden=" << hidden << " intermediate=" << intermediate
                                    << " activation bits=" << int(bits));
    MakeInput(num_rows, hidden, bits);
    std::vector<std::unique_ptr<Expert>> experts;
    std::vector<std::vector<int32_t>> rows;
    std::vector<std::vector<float>> out, expected;
    const int num_experts = 1 + static_cast<int>(random_() % 4);
    for (int e = 0; e < num_experts; ++e) {
      experts.push_back(MakeExpert(random_, hidden, intermediate,
                                   IntegerOptions{.segment = e % 2 == 0 ? 128 : 32,
                                                  .zeros = random_() % 2 == 0,
                                                  .bits = random_() % 2 == 0 ? 4 : 8}));
      const int counts[] = {1, 2, 5, 12, 13, 25, 49, 100};
      rows.push_back(RandomRows(counts[random_() % 8], num_rows));
      expected.emplace_back(rows.back().size() * hidden, -2.0f);
      ref::RunExpert(buffer_.view(), {&experts[e]->weights, rows[e], expected[e].data()});
    }
    for (const int num_threads : {1, 3, 8, 24}) {
      SCOPED_TRACE(testing::Message() << "threads=" << num_threads);
      out.clear();
      std::vector<ExpertJob> jobs;
      for (int e = 0; e < num_experts; ++e) {
        out.emplace_back(expected[e].size(), -1.0f);
        jobs.push_back({&experts[e]->weights, rows[e], out[e].data()});
      }
      ThreadPool pool(num_threads);
      RunExperts(pool, buffer_.view(), jobs, scratch_);
      for (int e = 0; e < num_experts; ++e) {
        for (size_t at = 0; at < out[e].size(); ++at) {
          ASSERT_EQ(BitsOf(out[e][at]), BitsOf(expected[e][at])) << "expert " << e << " at " << at;
        }
      }
    }
  }
}

TEST_P(ExpertFfnTest, NothingToDo) {
  MakeInput(1, 128);
  RunExperts(pool_, buffer_.view(), {}, scratch_);
}

}  // namespace
}  // namespace sheaf::kernels
