// decoder_bench CHECKPOINT [THREADS]: milliseconds of a step at 1, 8 and 32 sequences and of a
// prefill of 512 tokens, experts in this process, and the share of each stage.
// decoder_bench CHECKPOINT THREADS CONTEXT...: of a step of one sequence at these contexts, in
// milliseconds a stage.
// decoder_bench CHECKPOINT THREADS -: what standard input asks for, line by line, until it ends, so
// that it can take turns with another program: "SEQUENCES TOKENS STEPS" answers like the first
// form.
// --activation-bits=8 before all: as the flag of `sheaf router`.
//
// The cache of a decoding sequence holds 200 tokens in the first form. What the stages outside the
// matrix products cost is the line "overhead": norm, RoPE and store, attention and embedding. In
// the second the cache is filled with random numbers, not by a prefill: what is attended to is
// meaningless, what it costs is not.

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "exchange/cpu_experts.h"
#include "exchange/layer/local_expert_layer.h"
#include "model/checkpoint.h"
#include "model/expert_slice.h"
#include "router/attention/decoder.h"

namespace sheaf {
namespace {

constexpr int kContext = 200;
constexpr int kPrefill = 512;
constexpr int kLongestPrefill = 2048;
constexpr int kMaxSequences = 32;
constexpr int kContextSteps = 12;

template <typename T>
T OrExit(absl::StatusOr<T> value) {
  if (value.ok()) return *std::move(value);
  std::fprintf(stderr, "decoder_bench: %s\n", value.status().ToString().c_str());
  std::exit(1);
}

class Bench {
 public:
  // The cache holds max_tokens of all sequences together.
  Bench(const ModelConfig& config, const DecoderWeights& weights, const ExpertSlice& slice,
        ThreadPool& pool, kernels::ActivationBits activation_bits, int max_model_len,
        int max_tokens)
      : config_(config),
        source_(config.num_layers, config.num_experts,
                [&](LayerId layer, ExpertId expert) { return slice.Find(layer, expert); }),
        experts_(source_, config.num_layers, config.num_experts, pool),
        cache_(
            OrExit(KvCache::Create(config, {AllHeads(config)}, CacheOptions(config, max_tokens)))),
        decoder_(config, weights, *cache_, experts_, pool,
                 {.max_batched_tokens = kLongestPrefill,
                  .max_model_len = max_model_len,
                  .activation_bits = activation_bits,
                  .timings = &timings_}) {}

  // Every element of a bf16 cache: uniform in [-2, 2).
  void FillCache() {
    const auto block_bytes = KvCache::PlaneBlockBytes(
        config_, {AllHeads(config_)}, kernels::KvFormat::kBF16, cache_->block_size());
    for (int plane = 0; plane < cache_->num_planes(); ++plane) {
      const size_t count = block_bytes[plane] / 2 * static_cast<size_t>(cache_->num_blocks());
      auto* const values = reinterpret_cast<uint16_t*>(cache_->plane(plane));
      uint32_t state = 1;
      for (size_t i = 0; i < count; ++i) {
        state = state * 1664525 + 1013904223;
        const float value = static_cast<float>(state >> 8) * 0x1p-22f - 2.0f;
        values[i] = static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16);
      }
    }
  }

  // Steps of one sequence whose token stands at position `context`.
  void RunContext(int context) {
    std::vector<int32_t> table(context / cache_->block_size() + 1);
    for (size_t b = 0; b < table.size(); ++b) table[b] = static_cast<int32_t>(b);
    std::vector<StepTimings> steps;
    for (int i = 0; i <= kContextSteps; ++i) {
      const TokenId token = static_cast<TokenId>(random_() % config_.vocab_size);
      const StepSequence sequence = {std::span(&token, 1), context, table, 0};
      timings_ = {};
      const absl::Status status =
          decoder_.Forward({StepId(++step_), std::span(&sequence, 1)}, [](const LogitRows&) {});
      SHEAF_CHECK(status.ok(), "experts in this process do not fail");
      if (i > 0) steps.push_back(timings_);
    }
    std::sort(steps.begin(), steps.end(),
              [](const StepTimings& a, const StepTimings& b) { return a.total < b.total; });
    const StepTimings& t = steps[steps.size() / 2];
    const auto ms = [](StepTimings::Nanoseconds stage) { return stage.count() / 1e6; };
    std::printf(
        "context %6d: %8.3f ms | projections %.3f output %.3f absorption %.3f indexer %.3f "
        "attention %.3f experts %.3f feed-forward %.3f lm_head %.3f rest %.3f\n",
        context, ms(t.total), ms(t.projections), ms(t.output), ms(t.absorption), ms(t.indexer),
        ms(t.attention), ms(t.experts), ms(t.feed_forward), ms(t.lm_head),
        ms(t.embedding + t.norm + t.rope_store + t.gate));
  }

  // Steps of `num_sequences` sequences with num_tokens new tokens each, other tokens (and so other
  // experts, cold in every cache) in each step; the median step by its total.
  void Run(const char* name, int num_sequences, int num_tokens, int repeats) {
    std::vector<std::vector<TokenId>> tokens(num_sequences, std::vector<TokenId>(num_tokens));
    std::vector<std::vector<int32_t>> tables(num_sequences);
    std::vector<StepSequence> batch;
    const int first = num_tokens > 1 ? 0 : kContext;
    const int blocks =
        (std::max(num_tokens, kPrefill) + cache_->block_size() - 1) / cache_->block_size();
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
  static KvCacheOptions CacheOptions(const ModelConfig& config, int max_tokens) {
    KvCacheOptions options;
    options.memory_bytes =
        KvCache::BlockBytes(config, {AllHeads(config)}, options.format, options.block_size) *
        (max_tokens / options.block_size + 1);
    return options;
  }

  static void Print(const char* name, int num_tokens, const StepTimings& t) {
    const double total = static_cast<double>(t.total.count());
    const auto share = [&](StepTimings::Nanoseconds stage) { return 100 * stage.count() / total; };
    std::printf(
        "%-12s %8.3f ms %9.1f tokens/s | %% projections %.1f output %.1f experts %.1f feed-forward "
        "%.1f "
        "gate %.1f "
        "lm_head %.1f | overhead %.1f (norm %.1f rope+store %.1f indexer %.1f absorption "
        "%.1f attention %.1f embedding %.1f)\n",
        name, total / 1e6, num_tokens / (total / 1e9), share(t.projections), share(t.output),
        share(t.experts), share(t.feed_forward), share(t.gate), share(t.lm_head),
        share(t.norm + t.rope_store + t.indexer + t.absorption + t.attention + t.embedding),
        share(t.norm), share(t.rope_store), share(t.indexer), share(t.absorption),
        share(t.attention), share(t.embedding));
  }

  const ModelConfig& config_;
  const CpuExperts source_;
  LocalExpertLayer experts_;
  std::unique_ptr<KvCache> cache_;
  StepTimings timings_;
  Decoder decoder_;
  std::mt19937 random_{1};
  uint64_t step_ = 0;
};

int Main(int argc, char** argv) {
  auto bits = kernels::ActivationBits::k16;
  if (argc > 1 && std::string_view(argv[1]) == "--activation-bits=8") {
    bits = kernels::ActivationBits::k8;
    ++argv;
    --argc;
  }
  if (argc < 2) {
    std::fprintf(stderr, "usage: decoder_bench [--activation-bits=8] CHECKPOINT [THREADS [CONTEXT... | -]]\n");
    return 1;
  }
  ThreadPool pool(argc > 2 ? std::max(1, std::atoi(argv[2]))
                           : static_cast<int>(std::thread::hardware_concurrency()));
  const LoadProgress quiet = [](size_t, size_t) {};
  const ModelConfig config = OrExit(LoadModelConfig(argv[1]));
  const std::unique_ptr<Checkpoint> checkpoint = OrExit(Checkpoint::Open(argv[1]));
  const auto weights =
      OrExit(DecoderWeights::Load(*checkpoint, config, WholeModel(config), pool, quiet));
  const auto slice =
      OrExit(ExpertSlice::Load(*checkpoint, config, AllExperts(config), pool, quiet));
  if (argc > 3 && std::string_view(argv[3]) == "-") {
    Bench bench(config, *weights, *slice, pool, bits, kLongestPrefill + 1,
                kMaxSequences * 2 * kPrefill);
    int sequences = 0, tokens = 0, steps = 0;
    while (std::scanf("%d %d %d", &sequences, &tokens, &steps) == 3) {
      if (sequences < 1 || tokens < 1 || steps < 1 || sequences > kMaxSequences ||
          int64_t{sequences} * tokens > kLongestPrefill) {
        std::fprintf(stderr, "decoder_bench: 1 to %d sequences, %d tokens in all\n",
                     kMaxSequences, kLongestPrefill);
        return 1;
      }
      bench.Run(tokens > 1 ? "prefill" : "decode", sequences, tokens, steps);
      std::fflush(stdout);
    }
    return 0;
  }
  if (argc > 3) {
    std::vector<int> contexts;
    for (int i = 3; i < argc; ++i) contexts.push_back(std::max(1, std::atoi(argv[i])));
    const int longest = *std::max_element(contexts.begin(), contexts.end());
    Bench bench(config, *weights, *slice, pool, bits, longest + 1, longest + 1);
    bench.FillCache();
    for (const int context : contexts) bench.RunContext(context);
    return 0;
  }
  Bench bench(config, *weights, *slice, pool, bits, 2 * kPrefill, kMaxSequences * 2 * kPrefill);
  bench.Run("decode 1", 1, 1, 60);
  bench.Run("decode 8", 8, 1, 15);
  bench.Run("decode 32", 32, 1, 6);
  bench.Run("prefill 512", 1, kPrefill, 2);
  return 0;
}

}  // namespace
}  // namespace sheaf

int main(int argc, char** argv) { return sheaf::Main(argc, argv); }
