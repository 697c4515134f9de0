#pragma once
// An engine on a tiny checkpoint: real decoder, kernels and experts; what a test may break are the
// experts and the cluster's state.

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "exchange/layer/local_expert_layer.h"
#include "router/schedule/blocks/block_store.h"
#include "router/schedule/engine.h"
#include "tests/attention/tiny_checkpoint.h"
#include "tests/schedule/byte_tokenizer.h"
#include "tests/schedule/recording_sink.h"

namespace sheaf::testing {

// Passes on to real experts unless `finish` says otherwise: it may return an error or spoil the
// sum.
class BreakableExperts final : public ExpertLayer {
 public:
  explicit BreakableExperts(ExpertLayer& real) : real_(real) {}
  // Set while nothing runs. An error of `begin` comes before the experts have seen the batch.
  std::function<absl::Status(const RoutedBatch& batch)> begin;
  std::function<absl::Status(const RoutedBatch& batch, float* sum)> finish;

  absl::Status Begin(const RoutedBatch& batch) override {
    batch_ = batch;
    if (begin) {
      if (absl::Status status = begin(batch); !status.ok()) return status;
    }
    return real_.Begin(batch);
  }
  absl::Status Finish(float* sum) override {
    const absl::Status status = real_.Finish(sum);
    if (!status.ok() || !finish) return status;
    return finish(batch_, sum);
  }

 private:
  ExpertLayer& real_;
  RoutedBatch batch_;
};

class CountingObserver final : public EngineObserver {
 public:
  void OnStep(const StepReport& report) override {
    preempted += report.preempted;
    displaced += report.displaced;
    most_sequences = std::max(most_sequences.load(), report.sequences);
    most_tokens = std::max(most_tokens.load(), report.prefill_tokens + report.decode_tokens);
    forced_tokens += report.forced_tokens;
    drafted += report.drafted_tokens;
    for (const int accepted : report.accepted_at) drafts_accepted += accepted;
    steps += 1;
    predicted += report.predicted > Duration{0};
    bounded_by_time += report.target > Duration{0};
    ended_inside += report.ended;
    given_up += report.given_up;
    evicted_blocks += report.evicted_blocks;
    computed_tokens += report.given_up ? 0 : report.prefill_tokens + report.decode_tokens;
    moot += report.give_up_cause == GiveUpCause::kMoot;
  }
  void OnAdmitted(Duration) override { admitted += 1; }
  void OnPrefixLookup(int tokens, int cached_tokens) override {
    looked_up += tokens;
    hits += cached_tokens;
  }
  void OnSecondTier(const SecondTierReport& report) override {
    kept += static_cast<int>(report.kept);
    loaded += static_cast<int>(report.loaded);
    failed += static_cast<int>(report.failed);
  }
  void OnTold(const ToldTokens& report) override { told += report.tokens; }
  void OnQueue(const QueueReport& report) override {
    queued_tokens = report.tokens;
    refused_full = report.refused.full;
    refused_never_fits = report.refused.never_fits;
    refused_too_late = report.refused.too_late;
  }
  void OnFirstToken(Duration) override { first_tokens += 1; }
  void OnNextToken(Duration) override { next_tokens += 1; }
  void OnRequestEnd(const RequestReport& report) override {
    ends += 1;
    completion_tokens += report.completion_tokens;
    guided += report.guided;
    guide_errors += report.guide_error;
  }

  std::atomic<int> steps{0}, preempted{0}, most_sequences{0}, most_tokens{0}, first_tokens{0},
      next_tokens{0}, ends{0}, completion_tokens{0}, forced_tokens{0}, guided{0}, guide_errors{0},
      given_up{0}, moot{0}, displaced{0}, admitted{0}, drafted{0}, drafts_accepted{0}, predicted{0},
      bounded_by_time{0}, evicted_blocks{0}, computed_tokens{0}, looked_up{0}, hits{0}, kept{0},
      loaded{0}, failed{0}, ended_inside{0}, told{0};
  std::atomic<int64_t> queued_tokens{0}, refused_full{0}, refused_never_fits{0},
      refused_too_late{0};
};

struct EngineSettings {
  // Without threads of delivery, so that a sink can hold the step thread; delivery has tests of its
  // own.
  EngineOptions engine{.max_model_len = 256,
                       .max_num_seqs = 32,
                       .max_num_batched_tokens = 256,
                       .delivery_threads = 0};
  int num_blocks = 600;
  int block_size = 16;
  kernels::KvFormat kv_format = kernels::KvFormat::kF32;
  int threads = 2;
  const Clock* clock = nullptr;  // null: steady
  absl::Status cluster;          // at the start
  BlockStore* block_store = nullptr;
};

class RunningEngine {
 public:
  RunningEngine(const TinyCheckpoint& checkpoint, const EngineSettings& settings)
      : clock_(settings.clock == nullptr ? steady_ : *settings.clock),
        pool_(settings.threads),
        local_(checkpoint.experts(), checkpoint.config().num_layers,
               checkpoint.config().num_experts, pool_),
        experts(local_),
        cache_(*KvCache::Create(
            checkpoint.config(), {checkpoint.all_heads()},
            {settings.kv_format, settings.block_size,
             settings.num_blocks * KvCache::BlockBytes(checkpoint.config(),
                                                       {checkpoint.all_heads()}, settings.kv_format,
                                                       settings.block_size)})),
        decoder_(checkpoint.config(), checkpoint.weights(), *cache_, experts, pool_,
                 {.max_batched_tokens = settings.engine.max_num_batched_tokens,
                  .max_model_len = settings.engine.max_model_len,
                  .max_logit_rows = 5}),
        cluster_(settings.cluster),
        engine_(settings.engine,
                {&decoder_, cache_.get(), &ByteTokenizer(), &pool_, &clock_, &observer,
                 [this] {
                   std::lock_guard lock(mutex_);
                   return cluster_;
                 },
                 settings.block_store}) {}

  Engine& engine() { return engine_; }
  int num_blocks() const { return cache_->num_blocks(); }
  TimePoint now() const { return clock_.Now(); }

  void SetCluster(absl::Status status) {
    {
      std::lock_guard lock(mutex_);
      cluster_ = std::move(status);
    }
    engine_.Wake();
  }

  std::shared_ptr<RecordingSink> Start(const GenerationRequest& request) {
    auto sink = std::make_shared<RecordingSink>();
    const auto id = engine_.Submit(request, sink);
    EXPECT_TRUE(id.ok()) << id.status();
    return sink;
  }

 private:
  const SteadyClock steady_;
  const Clock& clock_;
  ThreadPool pool_;
  LocalExpertLayer local_;

 public:
  BreakableExperts experts;
  CountingObserver observer;

 private:
  std::unique_ptr<KvCache> cache_;
  Decoder decoder_;
  std::mutex mutex_;
  absl::Status cluster_;
  Engine engine_;  // last: its thread uses all others
};

inline GenerationRequest RandomRequest(std::mt19937_64& random, int prompt_tokens, int max_tokens) {
  GenerationRequest request;
  for (int i = 0; i < prompt_tokens; ++i)
    request.prompt.push_back(static_cast<TokenId>(random() % 256));
  request.stop.max_tokens = max_tokens;
  request.stop.ignore_eos = true;
  request.sampling.seed = random();
  return request;
}

}  // namespace sheaf::testing
