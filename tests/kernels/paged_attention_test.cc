#include "kernels/attention/paged_attention.h"

#include <algorithm>
#include <limits>

#include "tests/kernels/paged_memory.h"

namespace sheaf::kernels {
namespace {

using testing::ExpectSameOutputs;
using testing::kGarbage;

struct Case {
  KvFormat format = KvFormat::kF32;
  int block_size = 16;
  int num_heads = 12;
  int num_kv_heads = 2;
  int head_dim = 128;
  // (first_position, num_tokens) of each sequence.
  std::vector<std::pair<int, int>> sequences = {{0, 1}};
};

// A pool filled with random keys and values through shuffled block tables, and random queries.
class Problem {
 public:
  Problem(std::mt19937_64& random, const Case& shape) : shape_(shape) {
    int num_blocks = 1;
    for (const auto& [first, count] : shape.sequences) {
      num_blocks += (first + count + shape.block_size - 1) / shape.block_size;
    }
    kv_ = {.format = shape.format,
           .block_size = shape.block_size,
           .num_kv_heads = shape.num_kv_heads,
           .head_dim = shape.head_dim};
    memory_ = testing::PagedMemory(random, num_blocks, kv_.block_bytes());
    kv_.data = memory_.data();
    q_stride_ = shape.num_heads * shape.head_dim + 3;
    out_stride_ = shape.num_heads * shape.head_dim + 5;
    tables_.resize(shape.sequences.size());
    for (size_t i = 0; i < shape.sequences.size(); ++i) {
      const auto [first, count] = shape.sequences[i];
      tables_[i] = memory_.Take(first + count, shape.block_size);
      for (int p = 0; p < first + count; ++p) {
        const int kv_width = shape.num_kv_heads * shape.head_dim;
        const std::vector<float> k = testing::RandomNormals(random, kv_width);
        const std::vector<float> v = testing::RandomNormals(random, kv_width);
        StoreKvToken(kv_, tables_[i].data(), p, k.data(), v.data());
      }
      q_.push_back(testing::RandomNormals(random, count * q_stride_));
    }
  }

  // The outputs of all sequences, the gaps between rows included.
  template <typename Run>
  std::vector<std::vector<float>> Outputs(const Run& run) {
    std::vector<std::vector<float>> out;
    std::vector<AttentionSequence> sequences;
    for (const auto& [first, count] : shape_.sequences) {
      out.emplace_back(count * out_stride_, kGarbage);
    }
    for (size_t i = 0; i < tables_.size(); ++i) {
      sequences.push_back({tables_[i].data(), shape_.sequences[i].first, shape_.sequences[i].second,
                           q_[i].data(), out[i].data()});
    }
    run(sequences);
    return out;
  }

  std::vector<std::vector<float>> Compute(ThreadPool& pool) {
    return Outputs([&](const std::vector<AttentionSequence>& sequences) {
      PagedAttention(pool, kv_, shape_.num_heads, scale(), sequences, q_stride_, out_stride_);
    });
  }

  std::vector<std::vector<float>> Reference() {
    return Outputs([&](const std::vector<AttentionSequence>& sequences) {
      ref::PagedAttention(kv_, shape_.num_heads, scale(), sequences, q_stride_, out_stride_);
    });
  }

  float scale() const { return 1.0f / std::sqrt(static_cast<float>(shape_.head_dim)); }

  Case shape_;
  KvPool kv_;
  testing::PagedMemory memory_;
  std::vector<std::vector<int32_t>> tables_;
  std::vector<std::vector<float>> q_;
  ptrdiff_t q_stride_ = 0;
  ptrdiff_t out_stride_ = 0;
};

TEST(PagedAttention, HandComputedTwoPositions) {
  // Scores 0 and ln 3: weights 1/4 and 3/4.
  testing::OnEveryTarget([&](const std::string&) {
    std::vector<float> memory(64);
    const KvPool kv = {.format = KvFormat::kF32,
                       .block_size = 2,
                       .num_kv_heads = 1,
                       .head_dim = 2,
                       .data = reinterpret_cast<uint8_t*>(memory.data())};
    const int32_t table[] = {3};
    const float k0[] = {0, 5}, k1[] = {1.0986123f, 7}, v0[] = {4, 8}, v1[] = {0, 16};
    StoreKvToken(kv, table, 0, k0, v0);
    StoreKvToken(kv, table, 1, k1, v1);
    const float q[] = {2, 0, 0, 0};
    float out[4];
    const AttentionSequence sequence = {table, 1, 1, q, out};
    ThreadPool pool(1);
    PagedAttention(pool, kv, 2, 0.5f, {&sequence, 1}, 4, 4);
    EXPECT_NEAR(out[0], 1.0, 1e-6);
    EXPECT_NEAR(out[1], 14.0, 2e-6);
    EXPECT_NEAR(out[2], 2.0, 1e-6) << "a zero query averages";
    EXPECT_NEAR(out[3], 12.0, 1e-6);
  });
}

TEST(PagedAttention, FollowsDoubleMathematics) {
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(testing::SeedMessage(seed));
  std::mt19937_64 random(seed);
  Problem problem(random,
                  {.num_heads = 4, .num_kv_heads = 2, .head_dim = 48, .sequences = {{297, 3}}});
  ThreadPool pool(2);
  const std::vector<float> out = problem.Compute(pool)[0];
  for (int token = 0; token < 3; ++token) {
    for (int head = 0; head < 4; ++head) {
      const float* q = problem.q_[0].data() + token * problem.q_stride_ + head * 48;
      std::vector<double> score(297 + token + 1), value(48);
      std::vector<float> row(48);
      double max = -1e30, sum = 0;
      for (size_t p = 0; p < score.size(); ++p) {
        LoadKv(problem.kv_.key(problem.tables_[0][p / 16], head / 2, p % 16), 48, KvFormat::kF32,
               row.data());
        for (int d = 0; d < 48; ++d) score[p] += static_cast<double>(q[d]) * row[d];
        score[p] /= std::sqrt(48.0);
        max = std::max(max, score[p]);
      }
      for (size_t p = 0; p < score.size(); ++p) {
        const double weight = std::exp(score[p] - max);
        sum += weight;
        LoadKv(problem.kv_.value(problem.tables_[0][p / 16], head / 2, p % 16), 48, KvFormat::kF32,
               row.data());
        for (int d = 0; d < 48; ++d) value[d] += weight * row[d];
      }
      // Scores up to 5 with an error of a few units of 6e-8; 70 roundings of sums of size about 1.
      for (int d = 0; d < 48; ++d) {
        ASSERT_NEAR(out[token * problem.out_stride_ + head * 48 + d], value[d] / sum, 4e-6);
      }
    }
  }
}

TEST(PagedAttention, EveryTargetFormatAndShapeGivesTheReferenceBits) {
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(testing::SeedMessage(seed));
  std::mt19937_64 random(seed);
  const std::vector<std::pair<int, int>> lengths = {{0, 1},   {63, 1}, {64, 1},
                                                    {200, 1}, {0, 70}, {129, 5}};
  std::vector<Case> cases;
  for (const KvFormat format :
       {KvFormat::kF32, KvFormat::kBF16, KvFormat::kFp8E4M3, KvFormat::kFp8E5M2}) {
    cases.push_back({.format = format, .sequences = lengths});
    cases.push_back({.format = format,
                     .block_size = 7,
                     .num_heads = 6,
                     .num_kv_heads = 6,
                     .head_dim = 20,
                     .sequences = lengths});
  }
  cases.push_back(
      {.block_size = 1, .num_heads = 5, .num_kv_heads = 1, .head_dim = 16, .sequences = lengths});
  cases.push_back({.block_size = 256,
                   .num_heads = 24,
                   .num_kv_heads = 2,
                   .head_dim = 80,
                   .sequences = lengths});
  cases.push_back(
      {.block_size = 3, .num_heads = 2, .num_kv_heads = 1, .head_dim = 3, .sequences = {{100, 2}}});
  for (const Case& shape : cases) {
    SCOPED_TRACE(std::string(KvFormatName(shape.format)) + ", head_dim " +
                 std::to_string(shape.head_dim) + ", block_size " +
                 std::to_string(shape.block_size));
    Problem problem(random, shape);
    const auto expected = problem.Reference();
    testing::OnEveryTarget([&](const std::string& target) {
      if (target == "scalar") return;
      ThreadPool pool(2);
      ExpectSameOutputs(problem.Compute(pool), expected);
    });
  }
}

TEST(PagedAttention, AShortBatchOverLongContextsSplitsBlocksOverThreadsWithTheSameBits) {
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(testing::SeedMessage(seed));
  std::mt19937_64 random(seed);
  Problem problem(random, {.format = KvFormat::kBF16,
                           .num_heads = 12,
                           .num_kv_heads = 1,
                           .sequences = {{1500, 1}, {700, 2}}});
  const auto expected = problem.Reference();
  for (const int threads : {1, 2, 3, 8}) {
    SCOPED_TRACE(std::to_string(threads) + " threads");
    ThreadPool pool(threads);
    ExpectSameOutputs(problem.Compute(pool), expected);
  }
}

TEST(PagedAttention, ChunksPageSizesAndNeighboursDoNotChangeABit) {
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(testing::SeedMessage(seed));
  std::mt19937_64 random(seed);
  const uint64_t content = random();
  const int total = 150;
  ThreadPool pool(2);
  std::vector<float> whole;
  for (const int block_size : {1, 16, 33}) {
    std::mt19937_64 same(content);
    Problem problem(
        same, {.format = KvFormat::kBF16, .block_size = block_size, .sequences = {{0, total}}});
    // The shuffle of the block table draws another number of times for another page size: store
    // again.
    std::mt19937_64 tokens(content + 1);
    for (int p = 0; p < total; ++p) {
      const std::vector<float> k = testing::RandomNormals(tokens, 2 * 128);
      const std::vector<float> v = testing::RandomNormals(tokens, 2 * 128);
      StoreKvToken(problem.kv_, problem.tables_[0].data(), p, k.data(), v.data());
    }
    problem.q_[0] = testing::RandomNormals(tokens, total * problem.q_stride_);
    const std::vector<float> out = problem.Compute(pool)[0];
    if (whole.empty()) whole = out;
    testing::ExpectSameBits(out, whole, whole.size());

    // The same tokens in chunks of random size, two chunks in one call.
    std::vector<float> chunked(whole.size(), kGarbage);
    std::vector<AttentionSequence> sequences;
    for (int first = 0; first < total;) {
      const int count = std::min<int>(total - first, 1 + same() % 40);
      sequences.push_back({problem.tables_[0].data(), first, count,
                           problem.q_[0].data() + first * problem.q_stride_,
                           chunked.data() + first * problem.out_stride_});
      first += count;
      if (sequences.size() < 2 && first < total) continue;
      PagedAttention(pool, problem.kv_, 12, problem.scale(), sequences, problem.q_stride_,
                     problem.out_stride_);
      sequences.clear();
    }
    testing::ExpectSameBits(chunked, whole, whole.size());
  }
}

TEST(PagedAttention, ALaterTokenCannotLeakNotEvenAsNaN) {
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(testing::SeedMessage(seed));
  std::mt19937_64 random(seed);
  Problem problem(random,
                  {.num_heads = 6, .num_kv_heads = 2, .head_dim = 32, .sequences = {{0, 40}}});
  ThreadPool pool(1);
  const std::vector<float> before = problem.Compute(pool)[0];
  const std::vector<float> broken(64, NAN);
  StoreKvToken(problem.kv_, problem.tables_[0].data(), 20, broken.data(), broken.data());
  testing::OnEveryTarget([&](const std::string&) {
    const std::vector<float> after = problem.Compute(pool)[0];
    testing::ExpectSameBits(after, before, 20 * problem.out_stride_);
    for (int d = 0; d < 6 * 32; ++d) {
      ASSERT_TRUE(std::isnan(after[20 * problem.out_stride_ + d]))
          << "a NaN must not be swallowed either";
      ASSERT_TRUE(std::isnan(after[39 * problem.out_stride_ + d]));
    }
  });
}

TEST(PagedAttention, HugeScoresNeitherOverflowNorVanish) {
  std::mt19937_64 random(1);
  Problem problem(random,
                  {.num_heads = 2, .num_kv_heads = 1, .head_dim = 16, .sequences = {{130, 1}}});
  for (float& q : problem.q_[0]) q *= 1e4f;
  ThreadPool pool(1);
  testing::OnEveryTarget([&](const std::string&) {
    const std::vector<float> out = problem.Compute(pool)[0];
    for (int d = 0; d < 2 * 16; ++d) ASSERT_TRUE(std::isfinite(out[d]));
  });
}

}  // namespace
}  // namespace sheaf::kernels
