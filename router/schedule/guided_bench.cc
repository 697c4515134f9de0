// guided_bench CHECKPOINT [THREADS [MASK_US]]: what a guide costs in a running engine.
//
//   decode   tokens/s of 16 sequences that decode together: free; under a grammar that allows
//            everything but whose mask takes MASK_US of work (default 40); under a JSON Schema. In
//            turn, several rounds; the ratio is of the medians.
//   first    milliseconds from submit to the first token of one sequence, without and with the
//            schema, the grammar already compiled; and compiled for the first time.

#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "base/check.h"
#include "exchange/expert_source.h"
#include "exchange/local_expert_layer.h"
#include "model/checkpoint.h"
#include "model/expert_slice.h"
#include "router/schedule/engine.h"
#include "router/text/guide/matcher_grammar.h"

namespace sheaf {
namespace {

constexpr int kSequences = 16;
constexpr int kTokens = 48;
constexpr int kRounds = 5;
constexpr int kFirstTokens = 9;
constexpr int kMaxModelLen = 1024;
constexpr const char* kSchema =
    R"({"type":"object","properties":{"items":{"type":"array","minItems":8,"items":{"type":"object",
    "properties":{"name":{"type":"string","minLength":40},"count":{"type":"integer"},
    "kind":{"enum":["red","green","blue"]}},"required":["name","count","kind"],
    "additionalProperties":false}}},"required":["items"],"additionalProperties":false})";

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
  std::fprintf(stderr, "guided_bench: %s\n", value.status().ToString().c_str());
  std::exit(1);
}

// Allows every token; a mask takes `cost` of a core's time.
class CostlyGrammar final : public OutputGrammar {
 public:
  explicit CostlyGrammar(Duration cost) : cost_(cost) {}
  absl::StatusOr<std::unique_ptr<OutputGrammarState>> Start() const override {
    return std::make_unique<State>(cost_);
  }

 private:
  class State final : public OutputGrammarState {
   public:
    explicit State(Duration cost) : cost_(cost) {}
    absl::Status ComputeMask(std::span<uint32_t> mask) override {
      const TimePoint end = std::chrono::steady_clock::now() + cost_;
      std::fill(mask.begin(), mask.end(), ~0u);
      while (std::chrono::steady_clock::now() < end) {
      }
      return absl::OkStatus();
    }
    absl::Status Accept(TokenId) override { return absl::OkStatus(); }
    bool accepting() const override { return false; }
    bool finished() const override { return false; }
    std::vector<TokenId> ForcedTokens() override { return {}; }

   private:
    const Duration cost_;
  };
  const Duration cost_;
};

// Counts what full steps of decoding give.
class DecodeObserver final : public EngineObserver {
 public:
  void OnStep(const StepReport& report) override {
    if (report.prefill_tokens > 0 || report.sequences < kSequences) return;
    std::lock_guard lock(mutex_);
    tokens_ += report.generated_tokens;
    forced_ += report.forced_tokens;
    time_ += report.duration;
  }
  struct Figures {
    double tokens_per_second = 0;
    double forced_share = 0;
  };
  Figures Take() {
    std::lock_guard lock(mutex_);
    const Figures figures = {tokens_ / std::chrono::duration<double>(time_).count(),
                             tokens_ == 0 ? 0.0 : double(forced_) / double(tokens_)};
    tokens_ = forced_ = 0;
    time_ = Duration{0};
    return figures;
  }

 private:
  std::mutex mutex_;
  int64_t tokens_ = 0, forced_ = 0;
  Duration time_{0};
};

class Sink final : public GenerationSink {
 public:
  void OnPromptLogprobs(std::vector<std::optional<TokenLogprobs>>) override {}
  void OnToken(TokenEvent) override {
    std::lock_guard lock(mutex_);
    if (!first_.has_value()) first_ = std::chrono::steady_clock::now();
  }
  void OnEnd(GenerationEnd end) override {
    std::lock_guard lock(mutex_);
    SHEAF_CHECK(end.status.ok(), "nothing fails in a benchmark");
    ended_ = true;
    changed_.notify_all();
  }
  TimePoint Wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return ended_; });
    return *first_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<TimePoint> first_;
  bool ended_ = false;
};

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

std::shared_ptr<const GuidePlan> PlanOf(std::shared_ptr<const OutputGrammar> grammar) {
  auto plan = std::make_shared<GuidePlan>();
  plan->grammar = std::move(grammar);
  return plan;
}

class Bench {
 public:
  Bench(Engine& engine, DecodeObserver& observer, int vocab_size)
      : engine_(engine), observer_(observer), vocab_size_(vocab_size) {}

  DecodeObserver::Figures Decode(const std::shared_ptr<const GuidePlan>& plan) {
    std::vector<std::shared_ptr<Sink>> sinks;
    for (int i = 0; i < kSequences; ++i) sinks.push_back(Start(16, kTokens, plan));
    for (const auto& sink : sinks) sink->Wait();
    return observer_.Take();
  }

  double FirstTokenMs(const std::shared_ptr<const GuidePlan>& plan) {
    const TimePoint start = std::chrono::steady_clock::now();
    const TimePoint first = Start(256, 1, plan)->Wait();
    return std::chrono::duration<double, std::milli>(first - start).count();
  }

 private:
  std::shared_ptr<Sink> Start(int prompt, int tokens,
                              const std::shared_ptr<const GuidePlan>& plan) {
    GenerationRequest request;
    for (int i = 0; i < prompt; ++i)
      request.prompt.push_back(static_cast<TokenId>(random_() % vocab_size_));
    request.stop.max_tokens = tokens;
    request.stop.ignore_eos = true;
    request.sampling.seed = random_();
    request.guide = plan;
    auto sink = std::make_shared<Sink>();
    OrExit(engine_.Submit(std::move(request), sink));
    return sink;
  }

  Engine& engine_;
  DecodeObserver& observer_;
  const int vocab_size_;
  std::mt19937_64 random_{1};
};

void Run(Bench& bench, GrammarCompiler& compiler, std::chrono::microseconds mask_cost) {
  GrammarSpec spec;
  spec.kind = GrammarKind::kJsonSchema;
  spec.text = kSchema;
  const TimePoint start = std::chrono::steady_clock::now();
  const auto schema = PlanOf(MakeOutputGrammar(OrExit(compiler.Compile(spec))));
  const Duration compile = std::chrono::steady_clock::now() - start;
  const auto costly = PlanOf(std::make_shared<CostlyGrammar>(mask_cost));

  std::vector<double> free_rates, costly_rates, schema_rates, forced;
  (void)bench.Decode(nullptr);  // warms up
  for (int round = 0; round < kRounds; ++round) {
    free_rates.push_back(bench.Decode(nullptr).tokens_per_second);
    costly_rates.push_back(bench.Decode(costly).tokens_per_second);
    const DecodeObserver::Figures figures = bench.Decode(schema);
    schema_rates.push_back(figures.tokens_per_second);
    forced.push_back(figures.forced_share);
  }
  const double free_rate = Median(free_rates);
  std::printf("decode, %d sequences, tokens/s: free %.1f\n", kSequences, free_rate);
  std::printf("  masks of %d us   %.1f  (%.3fx)\n", int(mask_cost.count()), Median(costly_rates),
              Median(costly_rates) / free_rate);
  std::printf("  JSON Schema     %.1f  (%.3fx), %.0f %% of the tokens forced\n",
              Median(schema_rates), Median(schema_rates) / free_rate, 100 * Median(forced));

  std::vector<double> free_ms, schema_ms;
  for (int i = 0; i < kFirstTokens; ++i) {
    free_ms.push_back(bench.FirstTokenMs(nullptr));
    schema_ms.push_back(bench.FirstTokenMs(schema));
  }
  std::printf(
      "first token, prompt of 256, ms: free %.2f, JSON Schema %.2f (%.3fx); compiling it %.2f\n",
      Median(free_ms), Median(schema_ms), Median(schema_ms) / Median(free_ms),
      std::chrono::duration<double, std::milli>(compile).count());
}

int Main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: guided_bench CHECKPOINT [THREADS [MASK_US]]\n");
    return 1;
  }
  ThreadPool pool(argc > 2 ? std::max(1, std::atoi(argv[2]))
                           : static_cast<int>(std::thread::hardware_concurrency()));
  const std::chrono::microseconds mask_cost(argc > 3 ? std::max(0, std::atoi(argv[3])) : 40);
  const LoadProgress quiet = [](size_t, size_t) {};
  const ModelConfig config = OrExit(LoadModelConfig(argv[1]));
  const std::shared_ptr<const Checkpoint> checkpoint = OrExit(Checkpoint::Open(argv[1]));
  const auto weights =
      OrExit(DecoderWeights::Load(checkpoint, config, AllHeads(config), pool, quiet));
  const auto slice = OrExit(ExpertSlice::Load(checkpoint, config, AllExperts(config), pool, quiet));
  const auto tokenizer = OrExit(Tokenizer::Load(argv[1]));
  const auto compiler =
      OrExit(GrammarCompiler::Create(*tokenizer, static_cast<size_t>(config.vocab_size)));

  const SliceSource source(*slice);
  LocalExpertLayer experts(source, config.num_layers, config.num_experts, pool);
  KvCacheOptions cache_options;
  cache_options.memory_bytes = KvCache::BlockBytes(config, AllHeads(config), cache_options.format,
                                                   cache_options.block_size) *
                               (kSequences * kMaxModelLen / cache_options.block_size + 1);
  const auto cache = OrExit(KvCache::Create(config, AllHeads(config), cache_options));
  Decoder decoder(config, *weights, AllHeads(config), *cache, experts, pool,
                  {.max_batched_tokens = 512, .max_model_len = kMaxModelLen});
  const SteadyClock clock;
  DecodeObserver observer;
  EngineOptions options;
  options.max_model_len = kMaxModelLen;
  options.max_num_seqs = kSequences;
  options.max_num_batched_tokens = 512;
  Engine engine(options,
                {&decoder, cache.get(), tokenizer.get(), &pool, &clock, &observer, nullptr});
  Bench bench(engine, observer, config.vocab_size);
  Run(bench, *compiler, mask_cost);
  return 0;
}

}  // namespace
}  // namespace sheaf

int main(int argc, char** argv) { return sheaf::Main(argc, argv); }
