// guided_bench CHECKPOINT [THREADS [MASK_US]]: what a guide costs in a running engine.
//
//   decode   tokens/s of 16 sequences that decode together: free; under a grammar that allows
//            everything but whose mask takes MASK_US of work (default 40); under a JSON Schema. In
//            turn, several rounds; the ratio is of the medians. Beside it the processor time of a
//            token, prefill included: with one thread it is the work alone, whatever else the
//            machine does meanwhile.
//   first    milliseconds from submit to the first token of one sequence, without and with the
//            schema, the grammar already compiled; and compiled for the first time.

#include <time.h>

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
#include "exchange/cpu_experts.h"
#include "exchange/layer/local_expert_layer.h"
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

// Counts the tokens that full steps of decoding compute: those of a forced run too.
class DecodeObserver final : public EngineObserver {
 public:
  void OnStep(const StepReport& report) override {
    if (report.prefill_tokens > 0 || report.sequences < kSequences) return;
    std::lock_guard lock(mutex_);
    tokens_ += report.decode_tokens;
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
  void OnPromptLogprobs(int, std::vector<std::optional<TokenLogprobs>>) override {}
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

// Of all threads of this process.
double ProcessorSeconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

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

  struct Figures {
    double tokens_per_second = 0;
    double forced_share = 0;
    double processor_us = 0;  // a token
  };
  Figures Decode(const std::shared_ptr<const GuidePlan>& plan) {
    const double start = ProcessorSeconds();
    std::vector<std::shared_ptr<Sink>> sinks;
    for (int i = 0; i < kSequences; ++i) sinks.push_back(Start(16, kTokens, plan));
    for (const auto& sink : sinks) sink->Wait();
    const double used = ProcessorSeconds() - start;
    const DecodeObserver::Figures steps = observer_.Take();
    return {steps.tokens_per_second, steps.forced_share, used * 1e6 / (kSequences * kTokens)};
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

  struct Kind {
    std::string name;
    std::shared_ptr<const GuidePlan> plan;
    std::vector<double> rates = {}, forced = {}, processor = {};
  };
  std::vector<Kind> kinds = {{"free", nullptr},
                             {"masks of " + std::to_string(mask_cost.count()) + " us", costly},
                             {"JSON Schema", schema}};
  (void)bench.Decode(nullptr);  // warms up
  for (int round = 0; round < kRounds; ++round) {
    for (Kind& kind : kinds) {
      const Bench::Figures figures = bench.Decode(kind.plan);
      kind.rates.push_back(figures.tokens_per_second);
      kind.forced.push_back(figures.forced_share);
      kind.processor.push_back(figures.processor_us);
    }
  }
  std::printf("decode, %d sequences:\n", kSequences);
  for (const Kind& kind : kinds) {
    std::printf(
        "  %-16s %9.1f tokens/s (%.3fx)  processor %9.1f us a token (%.3fx)  forced %.0f %%\n",
        kind.name.c_str(), Median(kind.rates), Median(kind.rates) / Median(kinds[0].rates),
        Median(kind.processor), Median(kind.processor) / Median(kinds[0].processor),
        100 * Median(kind.forced));
  }

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
  const std::unique_ptr<Checkpoint> checkpoint = OrExit(Checkpoint::Open(argv[1]));
  const auto weights =
      OrExit(DecoderWeights::Load(*checkpoint, config, WholeModel(config), pool, quiet));
  const auto slice =
      OrExit(ExpertSlice::Load(*checkpoint, config, AllExperts(config), pool, quiet));
  const auto tokenizer = OrExit(Tokenizer::Load(argv[1]));
  const auto compiler =
      OrExit(GrammarCompiler::Create(*tokenizer, static_cast<size_t>(config.vocab_size)));

  const CpuExperts source(
      config.num_layers, config.num_experts,
      [&](LayerId layer, ExpertId expert) { return slice->Find(layer, expert); });
  LocalExpertLayer experts(source, config.num_layers, config.num_experts, pool);
  KvCacheOptions cache_options;
  cache_options.memory_bytes = KvCache::BlockBytes(config, {AllHeads(config)}, cache_options.format,
                                                   cache_options.block_size) *
                               (kSequences * kMaxModelLen / cache_options.block_size + 1);
  const auto cache = OrExit(KvCache::Create(config, {AllHeads(config)}, cache_options));
  Decoder decoder(config, *weights, *cache, experts, pool,
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
