// decoder_bench CHECKPOINT [THREADS]: milliseconds of a step at 1, 8 and 32 sequences and of a
// prefill of 512 tokens, experts in this process, and the share of each stage.
//
// The cache of a decoding sequence holds 200 tokens. What the stages outside the matrix products
// cost is the line "overhead": norm, RoPE and store, attention and embedding.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "base/check.h"
#include "exchange/expert_source.h"
#include "exchange/local_expert_layer.h"
#include "model/checkpoint.h"
#include "model/expert_slice.h"
#include "router/attention/decoder.h"

namespace sheaf {
namespace {

constexpr int kContext = 200;
constexpr int kPrefill = 512;
constexpr int kMaxSequences = 32;

class SliceSource final : public ExpertSource {
 public:
  explicit SliceSource(const ExpertSlice& slice) : slice_(slice) {}
  const kernels::ExpertWeights* Find(LayerId layer, ExpertId expert) const override {
    return slice_.Find(layer, expert);
  }

 private:
  const ExpertSlice& slice_;
};

template <typename T>
T OrExit(absl::StatusOr<T> value) {
  if (value.ok()) return *std::move(value);
  std::fprintf(stderr, "decoder_bench: %s\n", value.status().ToString().c_str());
  std::exit(1);
}

class Bench {
 public:
  Bench(const ModelConfig& config, const DecoderWeights& weights, const ExpertSlice& slice,
        ThreadPool& pool)
      : config_(config),
        source_(slice),
        experts_(source_, config.num_layers, config.num_experts, pool),
        cache_(OrExit(KvCache::Create(config, {0, config.num_kv_heads}, CacheOptions(config)))),
        decoder_(
            config, weights, {0, config.num_kv_heads}, *cache_, experts_, pool,
            {.max_batched_tokens = kPrefill, .max_model_len = 2 * kPrefill, .timings = &timings_}) {
  }

  // Steps of `num_sequences` sequences with num_tokens new tokens each, other tokens (and so other
  // experts, cold in every cache) in each step; the median step by its total.
  void Run(const char* name, int num_sequences, int num_tokens, int repeats) {
    std::vector<std::vector<TokenId>> tokens(num_sequences, std::vector<TokenId>(num_tokens));
    std::vector<std::vector<int32_t>> tables(num_sequences);
    std::vector<StepSequence> batch;
    const int first = num_tokens > 1 ? 0 : kContext;
    const int blocks = (kPrefill + cache_->block_size() - 1) / cache_->block_size();
    for (int s = 0; s < num_sequences; ++s) {
      for (int b = 0; b < blocks; ++b) tables[s].push_back(s * blocks + b);
      batch.push_back({tokens[s], first, tables[s], num_tokens - 1});
    }
    std::vector<StepTimings> steps;
    for (int i = 0; i <= repeats; ++i) {
      for (std::vector<TokenId>& row : tokens) {
        for (TokenId& token : row) token = static_cast<TokenId>(random_() % config_.vocab_size);
      }
      timings_ = {};
      const absl::Status status =
          decoder_.Forward({StepId(++step_), batch}, [](const LogitRows&) {});
      SHEAF_CHECK(status.ok(), "experts in this process do not fail");
      if (i > 0) steps.push_back(timings_);  // the first warms up
    }
    std::sort(steps.begin(), steps.end(),
              [](const StepTimings& a, const StepTimings& b) { return a.total < b.total; });
    Print(name, num_sequences * num_tokens, steps[steps.size() / 2]);
  }

 private:
  static KvCacheOptions CacheOptions(const ModelConfig& config) {
    KvCacheOptions options;
    options.memory_bytes =
        KvCache::BlockBytes(config, {0, config.num_kv_heads}, options.format, options.block_size) *
        kMaxSequences * (kPrefill / options.block_size + 1);
    return options;
  }

  static void Print(const char* name, int num_tokens, const StepTimings& t) {
    const double total = static_cast<double>(t.total.count());
    const auto share = [&](StepTimings::Nanoseconds stage) { return 100 * stage.count() / total; };
    std::printf(
        "%-12s %8.3f ms %9.1f tokens/s | %% qkv %.1f output %.1f experts %.1f feed-forward %.1f "
        "gate %.1f "
        "lm_head %.1f | overhead %.1f (norm %.1f rope+store %.1f attention %.1f embedding %.1f)\n",
        name, total / 1e6, num_tokens / (total / 1e9), share(t.qkv), share(t.output),
        share(t.experts), share(t.feed_forward), share(t.gate), share(t.lm_head),
        share(t.norm + t.rope_store + t.attention + t.embedding), share(t.norm),
        share(t.rope_store), share(t.attention), share(t.embedding));
  }

  const ModelConfig& config_;
  SliceSource source_;
  LocalExpertLayer experts_;
  std::unique_ptr<KvCache> cache_;
  StepTimings timings_;
  Decoder decoder_;
  std::mt19937 random_{1};
  uint64_t step_ = 0;
};

int Main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: decoder_bench CHECKPOINT [THREADS]\n");
    return 1;
  }
  ThreadPool pool(argc > 2 ? std::max(1, std::atoi(argv[2]))
                           : static_cast<int>(std::thread::hardware_concurrency()));
  const LoadProgress quiet = [](size_t, size_t) {};
  const ModelConfig config = OrExit(LoadModelConfig(argv[1]));
  const std::shared_ptr<const Checkpoint> checkpoint = OrExit(Checkpoint::Open(argv[1]));
  const auto weights =
      OrExit(DecoderWeights::Load(checkpoint, config, {0, config.num_kv_heads}, pool, quiet));
  const auto slice = OrExit(ExpertSlice::Load(checkpoint, config, AllExperts(config), pool, quiet));
  Bench bench(config, *weights, *slice, pool);
  bench.Run("decode 1", 1, 1, 60);
  bench.Run("decode 8", 8, 1, 15);
  bench.Run("decode 32", 32, 1, 6);
  bench.Run("prefill 512", 1, kPrefill, 2);
  return 0;
}

}  // namespace
}  // namespace sheaf

int main(int argc, char** argv) { return sheaf::Main(argc, argv); }
