#include "kernels/attention/index_scores.h"

#include <algorithm>

#include "tests/kernels/paged_memory.h"

namespace sheaf::kernels {
namespace {

using testing::ExpectSameOutputs;
using testing::kGarbage;

struct Case {
  KvFormat format = KvFormat::kF32;
  int block_size = 16;
  int num_heads = 32;
  int dim = 128;
  // Of each sequence, how many positions each of its queries sees.
  std::vector<std::vector<int>> num_positions = {{100, 101, 102}};
};

class Problem {
 public:
  Problem(std::mt19937_64& random, const Case& shape) : shape_(shape) {
    keys_ = {.format = shape.format, .block_size = shape.block_size, .dim = shape.dim};
    int num_blocks = 0;
    for (const auto& counts : shape.num_positions) {
      num_blocks += (Most(counts) + shape.block_size - 1) / shape.block_size;
    }
    memory_ = testing::PagedMemory(random, num_blocks, keys_.block_bytes());
    keys_.data = memory_.data();
    for (const auto& counts : shape.num_positions) {
      tables_.push_back(memory_.Take(Most(counts), shape.block_size));
      key_.emplace_back();
      for (int p = 0; p < Most(counts); ++p) {
        key_.back().push_back(testing::RandomNormals(random, shape.dim));
        StoreIndexKey(keys_, tables_.back().data(), p, key_.back().back().data());
      }
      for (size_t i = 0; i < counts.size(); ++i) {
        q_.emplace_back(testing::RandomNormals(random, shape.num_heads * shape.dim));
        weights_.emplace_back(testing::RandomNormals(random, shape.num_heads));
      }
    }
  }

  // The scores of all queries, one float behind each included.
  template <typename Run>
  std::vector<std::vector<float>> Outputs(const Run& run) const {
    std::vector<std::vector<float>> scores;
    for (const auto& counts : shape_.num_positions) {
      for (const int count : counts) scores.emplace_back(count + 1, kGarbage);
    }
    std::vector<IndexQuery> queries;
    for (size_t sequence = 0; sequence < tables_.size(); ++sequence) {
      for (const int count : shape_.num_positions[sequence]) {
        const size_t i = queries.size();
        queries.push_back(
            {tables_[sequence].data(), count, q_[i].data(), weights_[i].data(), scores[i].data()});
      }
    }
    run(queries);
    return scores;
  }

  std::vector<std::vector<float>> Compute(int threads) const {
    ThreadPool pool(threads);
    return Outputs([&](const std::vector<IndexQuery>& queries) {
      IndexScores(pool, keys_, shape_.num_heads, 0.09f, queries);
    });
  }

  std::vector<std::vector<float>> Reference() const {
    return Outputs([&](const std::vector<IndexQuery>& queries) {
      ref::IndexScores(keys_, shape_.num_heads, 0.09f, queries);
    });
  }

  static int Most(const std::vector<int>& counts) {
    return *std::max_element(counts.begin(), counts.end());
  }

  Case shape_;
  IndexKeyPool keys_;
  testing::PagedMemory memory_;
  std::vector<std::vector<int32_t>> tables_;
  std::vector<std::vector<std::vector<float>>> key_;
  std::vector<testing::Misaligned<float>> q_, weights_;
};

TEST(IndexScores, RecordSizes) {
  EXPECT_EQ(IndexKeyPool::TokenBytes(KvFormat::kF32, 128), 512u);
  EXPECT_EQ(IndexKeyPool::TokenBytes(KvFormat::kBF16, 128), 256u);
  EXPECT_EQ(IndexKeyPool::TokenBytes(KvFormat::kFp8E4M3, 128), 132u);
}

TEST(IndexScores, HandComputedTheReluComesBeforeTheWeights) {
  testing::OnEveryTarget([&](const std::string&) {
    for (const KvFormat format : {KvFormat::kF32, KvFormat::kBF16, KvFormat::kFp8E4M3}) {
      std::vector<float> memory(64);
      const IndexKeyPool keys = {.format = format,
                                 .block_size = 2,
                                 .dim = 2,
                                 .data = reinterpret_cast<uint8_t*>(memory.data())};
      const int32_t table[] = {1, 0};
      const float k0[] = {1, 2}, k1[] = {-1, 0}, k2[] = {0, -2};
      StoreIndexKey(keys, table, 0, k0);
      StoreIndexKey(keys, table, 1, k1);
      StoreIndexKey(keys, table, 2, k2);
      const float q[] = {4, 0, -2, 4};
      const float weights[] = {3, -0.5f};
      float scores[3];
      const IndexQuery query = {table, 3, q, weights, scores};
      ThreadPool pool(1);
      IndexScores(pool, keys, 2, 0.5f, {&query, 1});
      // Dot products, halved, negative ones cut off: head 0 4, -4, 0; head 1 6, 2, -8.
      EXPECT_EQ(scores[0], 3 * 2.0f - 0.5f * 3);
      EXPECT_EQ(scores[1], -0.5f) << "a negative weight lowers, it does not turn a cut-off sign";
      EXPECT_EQ(scores[2], 0.0f);
    }
  });
}

TEST(IndexScores, FollowsDoubleMathematics) {
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(testing::SeedMessage(seed));
  std::mt19937_64 random(seed);
  const Problem problem(random, {.num_positions = {{70}}});
  const std::vector<float> scores = problem.Compute(1)[0];
  for (int p = 0; p < 70; ++p) {
    double truth = 0, bound = 0;
    for (int head = 0; head < 32; ++head) {
      double dot = 0, size = 0;
      for (int d = 0; d < 128; ++d) {
        const double product =
            static_cast<double>(problem.q_[0][head * 128 + d]) * problem.key_[0][p][d];
        dot += product;
        size += std::fabs(product);
      }
      const double weight = problem.weights_[0][head];
      truth += weight * std::max(0.0, dot * 0.09f);
      // 128 roundings of a partial sum that never exceeds the sum of magnitudes, and a few more.
      bound += (128 + 34) * 6e-8 * size * 0.09 * std::fabs(weight);
    }
    ASSERT_NEAR(scores[p], truth, bound) << p;
  }
}

TEST(IndexScores, EveryTargetFormatAndShapeGivesTheReferenceBits) {
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(testing::SeedMessage(seed));
  std::mt19937_64 random(seed);
  const std::vector<std::vector<int>> counts = {
      {1}, {23, 24, 25}, {63, 64, 65, 66, 67, 68, 69, 70, 71, 200}, {97}};
  std::vector<Case> cases;
  for (const KvFormat format : {KvFormat::kF32, KvFormat::kBF16, KvFormat::kFp8E4M3}) {
    cases.push_back({.format = format, .num_positions = counts});
    cases.push_back(
        {.format = format, .block_size = 1, .num_heads = 7, .dim = 37, .num_positions = counts});
    cases.push_back(
        {.format = format, .block_size = 48, .num_heads = 13, .dim = 130, .num_positions = counts});
  }
  cases.push_back({.num_heads = 1, .dim = 1, .num_positions = counts});
  cases.push_back({.num_heads = 3, .dim = 18, .num_positions = counts});
  for (const Case& shape : cases) {
    SCOPED_TRACE(std::string(KvFormatName(shape.format)) + ", dim " + std::to_string(shape.dim));
    const Problem problem(random, shape);
    const auto expected = problem.Reference();
    testing::OnEveryTarget([&](const std::string& target) {
      if (target == "scalar") return;
      ExpectSameOutputs(problem.Compute(2), expected);
    });
  }
}

TEST(IndexScores, ThreadsPagesAndNeighboursDoNotChangeABit) {
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(testing::SeedMessage(seed));
  std::mt19937_64 random(seed);
  const Problem problem(
      random, {.format = KvFormat::kFp8E4M3, .num_heads = 6, .num_positions = {{900, 901}, {50}}});
  const auto expected = problem.Compute(1);
  for (const int threads : {2, 3, 8}) {
    SCOPED_TRACE(std::to_string(threads) + " threads");
    ExpectSameOutputs(problem.Compute(threads), expected);
  }
  // One query alone, from a pool with other pages.
  for (const int block_size : {1, 48}) {
    IndexKeyPool keys = problem.keys_;
    keys.block_size = block_size;
    std::vector<int32_t> table((901 + block_size - 1) / block_size);
    for (size_t i = 0; i < table.size(); ++i) table[i] = static_cast<int>(table.size() - 1 - i);
    std::vector<float> memory(table.size() * keys.block_bytes() / 4 + 1);
    keys.data = reinterpret_cast<uint8_t*>(memory.data());
    for (int p = 0; p < 901; ++p) {
      StoreIndexKey(keys, table.data(), p, problem.key_[0][p].data());
    }
    std::vector<float> alone(902, kGarbage);
    const IndexQuery query = {table.data(), 901, problem.q_[1].data(), problem.weights_[1].data(),
                              alone.data()};
    ThreadPool pool(2);
    IndexScores(pool, keys, 6, 0.09f, {&query, 1});
    testing::ExpectSameBits(alone, expected[1], alone.size());
  }
}

TEST(IndexScores, NaNCountsAsNothing) {
  testing::OnEveryTarget([&](const std::string&) {
    std::vector<float> memory(64);
    const IndexKeyPool keys = {
        .format = KvFormat::kF32, .dim = 1, .data = reinterpret_cast<uint8_t*>(memory.data())};
    const int32_t table[] = {0};
    const float number = 2, broken = NAN;
    StoreIndexKey(keys, table, 0, &broken);
    StoreIndexKey(keys, table, 1, &number);
    const float q = 1, weight = 1;
    float scores[2];
    const IndexQuery query = {table, 2, &q, &weight, scores};
    ThreadPool pool(1);
    IndexScores(pool, keys, 1, 1.0f, {&query, 1});
    EXPECT_EQ(scores[0], 0.0f);
    EXPECT_EQ(scores[1], 2.0f);
  });
}

}  // namespace
}  // namespace sheaf::kernels
