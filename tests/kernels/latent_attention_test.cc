#include "kernels/attention/latent_attention.h"

#include <algorithm>
#include <numeric>

#include "tests/kernels/paged_memory.h"

namespace sheaf::kernels {
namespace {

using testing::ExpectSameOutputs;
using testing::kGarbage;

struct Case {
  KvFormat format = KvFormat::kF32;
  int block_size = 16;
  int num_heads = 8;
  int latent_dim = 64;
  int rope_dim = 16;
  int context = 300;
  // How many positions each query attends to; a query whose number is the context has no list.
  std::vector<int> num_positions = {300, 1, 63, 64, 65, 200};
};

// A pool filled through a shuffled block table, and queries with random ascending lists.
class Problem {
 public:
  Problem(std::mt19937_64& random, const Case& shape) : shape_(shape) {
    const int num_blocks = (shape.context + shape.block_size - 1) / shape.block_size;
    kv_ = {.format = shape.format,
           .block_size = shape.block_size,
           .latent_dim = shape.latent_dim,
           .rope_dim = shape.rope_dim};
    memory_ = testing::PagedMemory(random, num_blocks, kv_.block_bytes());
    kv_.data = memory_.data();
    table_ = memory_.Take(shape.context, shape.block_size);
    for (int p = 0; p < shape.context; ++p) {
      latents_.push_back(testing::RandomNormals(random, shape.latent_dim));
      rope_keys_.push_back(testing::RandomNormals(random, shape.rope_dim));
      StoreLatentToken(kv_, table_.data(), p, latents_[p].data(), rope_keys_[p].data());
    }
    std::vector<int32_t> all(shape.context);
    std::iota(all.begin(), all.end(), 0);
    for (const int count : shape.num_positions) {
      lists_.emplace_back();
      std::sample(all.begin(), all.end(), std::back_inserter(lists_.back()), count, random);
      q_.emplace_back(testing::RandomNormals(random, shape.num_heads * key_dim()));
    }
  }

  int key_dim() const { return shape_.latent_dim + shape_.rope_dim; }
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(key_dim())); }

  // The outputs of all queries, one float behind each included.
  template <typename Run>
  std::vector<std::vector<float>> Outputs(const Run& run) const {
    const size_t size = static_cast<size_t>(shape_.num_heads) * shape_.latent_dim + 1;
    std::vector<std::vector<float>> out(q_.size(), std::vector<float>(size, kGarbage));
    std::vector<LatentQuery> queries;
    for (size_t i = 0; i < q_.size(); ++i) {
      const bool whole = shape_.num_positions[i] == shape_.context;
      queries.push_back({table_.data(), whole ? nullptr : lists_[i].data(), shape_.num_positions[i],
                         q_[i].data(), out[i].data()});
    }
    run(queries);
    return out;
  }

  std::vector<std::vector<float>> Compute(int threads) const {
    ThreadPool pool(threads);
    return Outputs([&](const std::vector<LatentQuery>& queries) {
      LatentAttention(pool, kv_, shape_.num_heads, scale(), queries);
    });
  }

  std::vector<std::vector<float>> Reference() const {
    return Outputs([&](const std::vector<LatentQuery>& queries) {
      ref::LatentAttention(kv_, shape_.num_heads, scale(), queries);
    });
  }

  Case shape_;
  LatentPool kv_;
  testing::PagedMemory memory_;
  std::vector<int32_t> table_;
  std::vector<std::vector<float>> latents_, rope_keys_;
  std::vector<std::vector<int32_t>> lists_;
  std::vector<testing::Misaligned<float>> q_;
};

TEST(LatentAttention, HandComputedTwoOfThreePositions) {
  // Scores 0 and ln 3 (2 * 0.5 from the latent, the rest from the rotated key): weights 1/4 and
  // 3/4.
  testing::OnEveryTarget([&](const std::string&) {
    std::vector<float> memory(64);
    const LatentPool kv = {.format = KvFormat::kF32,
                           .block_size = 2,
                           .latent_dim = 2,
                           .rope_dim = 1,
                           .data = reinterpret_cast<uint8_t*>(memory.data())};
    const int32_t table[] = {3, 1};
    const float l0[] = {0, 8}, r0[] = {0}, l1[] = {100, 100}, r1[] = {9}, l2[] = {0.5f, 16},
                r2[] = {0.0986123f};
    StoreLatentToken(kv, table, 0, l0, r0);
    StoreLatentToken(kv, table, 1, l1, r1);
    StoreLatentToken(kv, table, 2, l2, r2);
    const int32_t positions[] = {0, 2};
    const float q[] = {4, 0, 2, 0, 0, 0};
    float out[4];
    const LatentQuery query = {table, positions, 2, q, out};
    ThreadPool pool(1);
    LatentAttention(pool, kv, 2, 0.5f, {&query, 1});
    EXPECT_NEAR(out[0], 0.375, 1e-6);
    EXPECT_NEAR(out[1], 14.0, 2e-6);
    EXPECT_NEAR(out[2], 0.25, 1e-6) << "a zero query averages";
    EXPECT_NEAR(out[3], 12.0, 1e-6);
  });
}

TEST(LatentAttention, FollowsDoubleMathematics) {
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(testing::SeedMessage(seed));
  std::mt19937_64 random(seed);
  const Case shape = {.latent_dim = 50, .rope_dim = 10, .num_positions = {150, 300}};
  const Problem problem(random, shape);
  const auto out = problem.Compute(2);
  for (size_t i = 0; i < out.size(); ++i) {
    for (int head = 0; head < shape.num_heads; ++head) {
      const float* q = problem.q_[i].data() + head * problem.key_dim();
      double max = -1e30, sum = 0;
      std::vector<double> score, value(shape.latent_dim);
      for (const int p : problem.lists_[i]) {
        double dot = 0;
        for (int d = 0; d < 50; ++d) dot += static_cast<double>(q[d]) * problem.latents_[p][d];
        for (int d = 0; d < 10; ++d) {
          dot += static_cast<double>(q[50 + d]) * problem.rope_keys_[p][d];
        }
        score.push_back(dot * problem.scale());
        max = std::max(max, score.back());
      }
      for (size_t j = 0; j < score.size(); ++j) {
        const double weight = std::exp(score[j] - max);
        sum += weight;
        const std::vector<float>& latent = problem.latents_[problem.lists_[i][j]];
        for (int d = 0; d < 50; ++d) value[d] += weight * latent[d];
      }
      // Scores up to 5 with an error of a few units of 6e-8; 70 roundings of sums of size about 1.
      for (int d = 0; d < 50; ++d) ASSERT_NEAR(out[i][head * 50 + d], value[d] / sum, 4e-6);
    }
  }
}

TEST(LatentAttention, EveryTargetFormatAndShapeGivesTheReferenceBits) {
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(testing::SeedMessage(seed));
  std::mt19937_64 random(seed);
  std::vector<Case> cases;
  for (const KvFormat format : {KvFormat::kF32, KvFormat::kBF16, KvFormat::kFp8E4M3}) {
    cases.push_back({.format = format});
    cases.push_back(
        {.format = format, .block_size = 1, .num_heads = 5, .latent_dim = 37, .rope_dim = 6});
    cases.push_back({.format = format,
                     .block_size = 48,
                     .num_heads = 70,
                     .latent_dim = 130,
                     .rope_dim = 14,
                     .num_positions = {300, 97}});
  }
  cases.push_back({.num_heads = 1, .latent_dim = 3, .rope_dim = 2});
  cases.push_back({.format = KvFormat::kBF16,
                   .num_heads = 16,
                   .latent_dim = 512,
                   .rope_dim = 64,
                   .num_positions = {150}});
  for (const Case& shape : cases) {
    SCOPED_TRACE(std::string(KvFormatName(shape.format)) + ", latent_dim " +
                 std::to_string(shape.latent_dim) + ", block_size " +
                 std::to_string(shape.block_size));
    const Problem problem(random, shape);
    const auto expected = problem.Reference();
    testing::OnEveryTarget([&](const std::string& target) {
      if (target == "scalar") return;
      ExpectSameOutputs(problem.Compute(2), expected);
    });
  }
}

TEST(LatentAttention, ThreadsAndNeighboursDoNotChangeABit) {
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(testing::SeedMessage(seed));
  std::mt19937_64 random(seed);
  // From many queries for a thread down to fewer groups of heads than threads, whose lists are then
  // split; 900 positions of 2000 heads' sums take more than one wave.
  for (const Case& shape :
       {Case{.num_heads = 64}, Case{.num_heads = 64, .num_positions = {300}},
        Case{.num_heads = 7, .num_positions = {290, 5}},
        Case{.num_heads = 400, .latent_dim = 512, .context = 900, .num_positions = {899}}}) {
    const Problem problem(random, shape);
    const auto expected = problem.Compute(1);
    ExpectSameOutputs(expected, shape.num_heads < 100 ? problem.Reference() : expected);
    for (const int threads : {2, 3, 8, 40}) {
      SCOPED_TRACE(std::to_string(threads) + " threads");
      ExpectSameOutputs(problem.Compute(threads), expected);
    }
    for (size_t i = 0; i < expected.size(); ++i) {
      std::vector<float> alone(expected[i].size(), kGarbage);
      const LatentQuery query = {problem.table_.data(), problem.lists_[i].data(),
                                 shape.num_positions[i], problem.q_[i].data(), alone.data()};
      ThreadPool pool(1);
      LatentAttention(pool, problem.kv_, shape.num_heads, problem.scale(), {&query, 1});
      testing::ExpectSameBits(alone, expected[i], alone.size());
    }
  }
}

TEST(LatentAttention, PageSizesDoNotChangeABit) {
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(testing::SeedMessage(seed));
  std::mt19937_64 random(seed);
  const Problem problem(random, {.format = KvFormat::kFp8E4M3});
  const auto expected = problem.Compute(2);
  for (const int block_size : {1, 48}) {
    LatentPool kv = problem.kv_;
    kv.block_size = block_size;
    std::vector<int32_t> table((300 + block_size - 1) / block_size);
    for (size_t i = 0; i < table.size(); ++i) table[i] = static_cast<int>(table.size() - 1 - i);
    std::vector<float> memory(table.size() * kv.block_bytes() / 4 + 1);
    kv.data = reinterpret_cast<uint8_t*>(memory.data());
    for (int p = 0; p < 300; ++p) {
      StoreLatentToken(kv, table.data(), p, problem.latents_[p].data(),
                       problem.rope_keys_[p].data());
    }
    ExpectSameOutputs(problem.Outputs([&](std::vector<LatentQuery> queries) {
      for (LatentQuery& query : queries) query.block_table = table.data();
      ThreadPool pool(2);
      LatentAttention(pool, kv, 8, problem.scale(), queries);
    }),
                      expected);
  }
}

TEST(LatentAttention, OnlyListedPositionsCount) {
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(testing::SeedMessage(seed));
  std::mt19937_64 random(seed);
  const Problem problem(random, {.latent_dim = 20, .rope_dim = 3, .num_positions = {100}});
  const std::vector<float> before = problem.Compute(1)[0];
  const std::vector<float> broken(20, NAN);
  for (int p = 0; p < 300; ++p) {
    const std::vector<int32_t>& list = problem.lists_[0];
    if (std::binary_search(list.begin(), list.end(), p)) continue;
    StoreLatentToken(problem.kv_, problem.table_.data(), p, broken.data(), broken.data());
  }
  testing::OnEveryTarget([&](const std::string&) {
    testing::ExpectSameBits(problem.Compute(1)[0], before, before.size());
  });
  // A NaN in the rotated key alone reaches every output, one in a latent too.
  StoreLatentToken(problem.kv_, problem.table_.data(), problem.lists_[0][70],
                   problem.latents_[0].data(), broken.data());
  testing::OnEveryTarget([&](const std::string&) {
    const std::vector<float> after = problem.Compute(1)[0];
    for (int i = 0; i < 8 * 20; ++i) ASSERT_TRUE(std::isnan(after[i]));
  });
}

TEST(LatentAttention, HugeScoresNeitherOverflowNorVanish) {
  std::mt19937_64 random(1);
  Problem problem(random, {.num_positions = {130}});
  for (size_t i = 0; i < problem.q_[0].size(); ++i) problem.q_[0][i] *= 1e4f;
  testing::OnEveryTarget([&](const std::string&) {
    const std::vector<float> out = problem.Compute(1)[0];
    for (int i = 0; i < 8 * 64; ++i) ASSERT_TRUE(std::isfinite(out[i]));
  });
}

}  // namespace
}  // namespace sheaf::kernels
