// Ranks of tensor parallelism give the bytes that a single rank gives.

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "tests/exchange/gather/in_process_ranks.h"
#include "exchange/layer/local_expert_layer.h"
#include "router/attention/decoder.h"
#include "tests/attention/tiny_checkpoint.h"
#include "tests/text/random_seed.h"

namespace sheaf {
namespace {

using testing::RandomSeed;
using testing::TinyCheckpoint;
using Logits = std::vector<std::vector<float>>;  // of each position of the prompts in turn

constexpr int kMaxTokens = 256;
constexpr int kBlockSize = 8;

DecoderOptions Options(kernels::ActivationBits bits) {
  DecoderOptions options;
  options.activation_bits = bits;
  options.max_batched_tokens = kMaxTokens;
  options.max_model_len = kMaxTokens;
  options.max_logit_rows = 7;
  return options;
}

// What all ranks compute: prompts side by side, in chunks.
struct Work {
  std::vector<std::vector<TokenId>> prompts;
  std::vector<int> chunks;  // of a step, for every prompt
};

Work RandomWork(std::mt19937_64& random, int vocab_size) {
  Work work;
  for (const int length : {1, 37, 60}) {
    std::vector<TokenId>& prompt = work.prompts.emplace_back(length);
    for (TokenId& token : prompt) token = static_cast<TokenId>(random() % vocab_size);
  }
  for (int left = 60; left > 0; left -= work.chunks.back())
    work.chunks.push_back(1 + random() % 25);
  return work;
}

absl::Status RunWork(Decoder& decoder, const Work& work, Logits& logits) {
  const size_t count = work.prompts.size();
  std::vector<std::vector<int32_t>> tables(count);
  for (size_t i = 0; i < count; ++i) {
    for (size_t block = 0; block * kBlockSize < kMaxTokens; ++block) {
      tables[i].push_back(static_cast<int32_t>(block * count + i));
    }
  }
  std::vector<Logits> by_prompt(count);
  size_t done = 0;
  for (size_t step = 0; step < work.chunks.size(); ++step) {
    std::vector<StepSequence> batch;
    std::vector<size_t> who;
    for (size_t i = 0; i < count; ++i) {
      const std::span<const TokenId> prompt = work.prompts[i];
      if (done >= prompt.size()) continue;
      const size_t size = std::min<size_t>(work.chunks[step], prompt.size() - done);
      batch.push_back({prompt.subspan(done, size), static_cast<int>(done), tables[i], 0});
      who.push_back(i);
    }
    done += work.chunks[step];
    const absl::Status status =
        decoder.Forward({StepId(step + 1), batch}, [&](const LogitRows& rows) {
          for (size_t r = 0; r < rows.sources.size(); ++r) {
            by_prompt[who[rows.sources[r].sequence]].emplace_back(rows.row(r).begin(),
                                                                  rows.row(r).end());
          }
        });
    if (!status.ok()) return status;
  }
  for (Logits& part : by_prompt) logits.insert(logits.end(), part.begin(), part.end());
  return absl::OkStatus();
}

std::unique_ptr<KvCache> CacheOf(const TinyCheckpoint& checkpoint, const KvShare& share,
                                 kernels::KvFormat format) {
  const int blocks = 3 * kMaxTokens / kBlockSize;
  return *KvCache::Create(
      checkpoint.config(), share,
      {format, kBlockSize,
       blocks * KvCache::BlockBytes(checkpoint.config(), share, format, kBlockSize)});
}

// One rank with all that is its own.
struct Rank {
  Rank(const TinyCheckpoint& checkpoint, const std::vector<RankShare>& shares, int rank,
       RankGroup& group, ExpertLayer* experts, kernels::KvFormat format, bool whole_latents,
       kernels::ActivationBits bits)
      : pool(1 + rank % 2),
        weights(checkpoint.WeightsOf(shares[rank])),
        cache(CacheOf(checkpoint, shares[rank].kv(whole_latents), format)),
        decoder(checkpoint.config(), *weights, *cache, {shares, &group}, experts, pool,
                Options(bits)) {}

  ThreadPool pool;
  std::unique_ptr<DecoderWeights> weights;
  std::unique_ptr<KvCache> cache;
  Decoder decoder;
};

class Experts {
 public:
  explicit Experts(const TinyCheckpoint& checkpoint)
      : layer_(checkpoint.experts(), checkpoint.config().num_layers,
               checkpoint.config().num_experts, pool_) {}
  ExpertLayer& layer() { return layer_; }

 private:
  ThreadPool pool_{1};
  LocalExpertLayer layer_;
};

// By rank.
std::vector<absl::Status> RunRanks(const TinyCheckpoint& checkpoint, int num_ranks,
                                   const Work& work, kernels::KvFormat format, ExpertLayer& experts,
                                   Logits& logits, bool whole_latents = false,
                                   kernels::ActivationBits bits = kernels::ActivationBits::k16) {
  const auto shares = ShareAmongRanks(checkpoint.config(), num_ranks);
  EXPECT_TRUE(shares.ok()) << shares.status();
  InProcessRanks group(num_ranks, absl::Seconds(60));
  std::vector<std::unique_ptr<Rank>> ranks;
  for (int rank = 0; rank < num_ranks; ++rank) {
    ranks.push_back(std::make_unique<Rank>(checkpoint, *shares, rank, group.rank(rank),
                                           rank == 0 ? &experts : nullptr, format, whole_latents,
                                           bits));
  }
  std::vector<absl::Status> statuses(num_ranks);
  std::vector<Logits> by_rank(num_ranks);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < num_ranks; ++rank) {
    threads.emplace_back(
        [&, rank] { statuses[rank] = RunWork(ranks[rank]->decoder, work, by_rank[rank]); });
  }
  for (std::thread& thread : threads) thread.join();
  for (int rank = 1; rank < num_ranks; ++rank) EXPECT_TRUE(by_rank[rank].empty());
  logits = std::move(by_rank[0]);
  return statuses;
}

class RankedDecoder : public ::testing::TestWithParam<bool> {};

TEST_P(RankedDecoder, GivesTheBytesOfASingleRank) {
  const uint64_t seed = RandomSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  for (const bool four_bit : {false, true}) {
    for (const bool shared_expert : {true, false}) {
      const TinyCheckpoint checkpoint({.seed = seed,
                                       .four_bit = four_bit,
                                       .shared_expert = shared_expert,
                                       .latent = GetParam()});
      const Work work = RandomWork(random, checkpoint.config().vocab_size);
      Experts experts(checkpoint);
      Logits of_16_bits;
      for (const auto& [format, bits] :
           {std::pair{kernels::KvFormat::kBF16, kernels::ActivationBits::k16},
            std::pair{kernels::KvFormat::kFp8E4M3, kernels::ActivationBits::k16},
            std::pair{kernels::KvFormat::kBF16, kernels::ActivationBits::k8}}) {
        ThreadPool pool(2);
        const auto cache = CacheOf(checkpoint, {checkpoint.all_heads()}, format);
        Decoder whole(checkpoint.config(), checkpoint.weights(), *cache, experts.layer(), pool,
                      Options(bits));
        Logits wanted;
        ASSERT_TRUE(RunWork(whole, work, wanted).ok());
        if (of_16_bits.empty()) of_16_bits = wanted;
        if (bits == kernels::ActivationBits::k8) {
          // Of float weights too: experts read what the router has quantized.
          EXPECT_NE(wanted, of_16_bits);
        }
        for (const int num_ranks : {1, 2, 3, 4, 5, 8}) {
          SCOPED_TRACE(num_ranks);
          Logits logits;
          for (const absl::Status& status : RunRanks(checkpoint, num_ranks, work, format,
                                                     experts.layer(), logits, false, bits)) {
            ASSERT_TRUE(status.ok()) << status;
          }
          ASSERT_EQ(logits, wanted);
        }
        Logits logits;
        for (const absl::Status& status : RunRanks(checkpoint, 3, work, format, experts.layer(),
                                                   logits, /*whole_latents=*/true, bits)) {
          ASSERT_TRUE(status.ok()) << status;
        }
        ASSERT_EQ(logits, wanted);
      }
    }
  }
}

// Fails the third layer that it is asked for.
class FailingExperts final : public ExpertLayer {
 public:
  explicit FailingExperts(ExpertLayer& inner) : inner_(inner) {}
  absl::Status Begin(const RoutedBatch& batch) override {
    return ++calls_ == 3 ? absl::UnavailableError("no holder of expert 4") : inner_.Begin(batch);
  }
  absl::Status Finish(float* sum) override { return inner_.Finish(sum); }

 private:
  ExpertLayer& inner_;
  int calls_ = 0;
};

TEST_P(RankedDecoder, AnErrorOfTheExpertsEndsTheStepAtEveryRank) {
  const uint64_t seed = RandomSeed();
  std::mt19937_64 random(seed);
  const TinyCheckpoint checkpoint({.seed = seed, .latent = GetParam()});
  Experts experts(checkpoint);
  FailingExperts failing(experts.layer());
  Logits logits;
  for (const absl::Status& status :
       RunRanks(checkpoint, 3, RandomWork(random, checkpoint.config().vocab_size),
                kernels::KvFormat::kBF16, failing, logits)) {
    EXPECT_EQ(status, absl::UnavailableError("no holder of expert 4"));
  }
}

// 278 rows of lm_head among them: parts of other lengths than its blocks.
TEST_P(RankedDecoder, AnInt8HeadHasTheSameBytesOnAnyThreadsAndRanks) {
  const uint64_t seed = RandomSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  const auto logits_of = [](const TinyCheckpoint& checkpoint, const Work& work, int threads) {
    Experts experts(checkpoint);
    ThreadPool pool(threads);
    const auto cache =
        CacheOf(checkpoint, {checkpoint.all_heads()}, kernels::KvFormat::kF32);
    Decoder decoder(checkpoint.config(), checkpoint.weights(), *cache, experts.layer(), pool,
                    Options(kernels::ActivationBits::k16));
    Logits logits;
    EXPECT_TRUE(RunWork(decoder, work, logits).ok());
    return logits;
  };
  const TinyCheckpoint checkpoint(
      {.seed = seed, .latent = GetParam(), .lm_head = LmHeadDtype::kInt8});
  const Work work = RandomWork(random, checkpoint.config().vocab_size);
  const Logits wanted = logits_of(checkpoint, work, 1);
  for (const int threads : {2, 3, 5}) ASSERT_EQ(logits_of(checkpoint, work, threads), wanted);
  Experts experts(checkpoint);
  for (const int num_ranks : {2, 3, 8}) {
    SCOPED_TRACE(num_ranks);
    Logits logits;
    for (const absl::Status& status : RunRanks(checkpoint, num_ranks, work,
                                               kernels::KvFormat::kF32, experts.layer(), logits)) {
      ASSERT_TRUE(status.ok()) << status;
    }
    ASSERT_EQ(logits, wanted);
  }

  // Only the head's numbers are others, and those by little.
  const TinyCheckpoint plain({.seed = seed, .latent = GetParam()});
  const Logits stored = logits_of(plain, work, 1);
  ASSERT_EQ(stored.size(), wanted.size());
  double squares = 0, errors = 0;
  for (size_t row = 0; row < stored.size(); ++row) {
    for (size_t id = 0; id < stored[row].size(); ++id) {
      const double error = wanted[row][id] - stored[row][id];
      squares += double{stored[row][id]} * stored[row][id];
      errors += error * error;
    }
  }
  EXPECT_GT(errors, 0);
  EXPECT_LT(errors, 0.01 * 0.01 * squares);
}

INSTANTIATE_TEST_SUITE_P(Attention, RankedDecoder, ::testing::Bool(), [](const auto& kind) {
  return kind.param ? "Latent" : "GroupedQuery";
});

}  // namespace
}  // namespace sheaf
