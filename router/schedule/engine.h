#pragma once
// Engine: continuous batching. One step thread takes what clients submit, plans a step
// (scheduler.h), runs the decoder and samples; the threads of delivery/ tell the sinks.
//
//   Submit -> queue (admission.h) -> running (sequence.h, KV blocks) -> one token a step, or a run
//   that the guide forces -> OnEnd
//
// Output     depends on the request, the checkpoint and the numeric settings alone: not on batch
//            neighbours, chunking, preemption or threads.
// Tokens     every generated token gives one OnToken, forced ones and the stop token (EOS list,
//            stop_token_ids) included, the latter with empty text; completion_tokens counts it.
//            Forced tokens run together in the next step, among the decodes.
// Ends       stop token, stop string, max_tokens, max_model_len; Cancel, deadline, Stop. KV blocks
//            are freed. A stop string is found while the next step may be running: what that
//            computes beyond it nobody is told. Requests without stop strings never run beyond
//            their end, and their blocks are free before OnEnd.
// Given up   a forward pass that ends with kUnavailable or kAborted (a worker died, nobody holds an
//            expert) fails nobody: its sequences keep their tokens and blocks and are computed
//            again (step_retry.h), with the same output. While `cluster_ready` is not OK nothing
//            runs. Requests wait: at most max_unready_wait without any step, then they end with
//            kUnavailable and its cause. Cancel, deadline and Stop are kept meanwhile.
// Over       what is cancelled, too late or stopped ends in the middle of a step, within 100 ms
//            where the machine runs the step thread: its client is told, its rows leave the step at
//            the next half of a layer (decoder.h) and its blocks are free. The others' step goes
//            on; a step of which nobody is left ends. Whoever waits inside a step asks StepIsMoot
//            meanwhile.
// Errors     of a request alone (logits not finite: kInternal) end that request. Any other error of
//            the forward pass ends the requests of that step with its status; the engine goes on.
//            SubmitAll refuses with kUnavailable before the cluster was ready for the first time,
//            and after Stop; with kDeadlineExceeded what by all that is measured cannot end in
//            time.
// Live       unless the step thread has been on one round (a step, its callbacks) for longer than
//            max_step_time while the cluster is ready. It is at rest while nothing waits or the
//            cluster is not ready.
// Threads    public methods from any thread; sinks and observer: delivery/token_delivery.h; `pool`
//            from the step thread.
//            A guide: made in SubmitAll, on the caller's thread; then on the pool, with the rows.
//            cluster_ready from any thread, quick.
// Ownership  borrows all but options; they outlive it. The destructor is Stop(now).

#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "base/clock.h"
#include "base/thread_pool.h"
#include "router/attention/decoder.h"
#include "router/attention/kv_cache.h"
#include "router/schedule/blocks/prefix_cache.h"
#include "router/schedule/engine_observer.h"
#include "router/schedule/generation.h"
#include "router/schedule/plan/step_cost.h"
#include "router/schedule/speculation/speculator.h"
#include "router/schedule/queue/slot_turns.h"
#include "router/schedule/step/step_retry.h"
#include "router/text/tokenizer.h"

namespace sheaf {

class BlockStore;
class ClusterGate;
class RequestLedger;
class Sequence;
class StepLoop;

struct EngineOptions {
  int max_model_len = 0;  // prompt + output
  int max_num_seqs = 64;
  int max_num_batched_tokens = 2048;  // at most DecoderOptions::max_batched_tokens
  double target_step_ms = 0;          // of a step with decodes and prefills; 0: by the decodes
  ExpertSpread experts{};             // of the model, for the cost of steps
  int max_queued_requests = 1024;
  int64_t max_queued_tokens = int64_t{1} << 24;
  SlotTurnOptions slot_turns{};
  std::vector<TokenId> eos_token_ids{};
  Duration max_unready_wait = std::chrono::seconds(60);
  StepRetryOptions retry{};
  SpeculationOptions speculation{};
  Duration max_step_time = std::chrono::seconds(120);  // a longer one: the engine hangs
  PrefixCacheOptions prefix_cache{};
  // that tell clients (delivery/token_delivery.h); 0: the step thread does
  int delivery_threads = 1;
};

// What the engine runs on.
struct EngineParts {
  Decoder* decoder = nullptr;
  const KvCache* cache = nullptr;
  const Tokenizer* tokenizer = nullptr;
  ThreadPool* pool = nullptr;
  const Clock* clock = nullptr;
  EngineObserver* observer = nullptr;
  std::function<absl::Status()> cluster_ready;  // empty: always
  BlockStore* block_store = nullptr;            // second tier of the prefix cache; null: none
  // Asked by the step thread before each plan: whether what the KV cache held is gone (an attention
  // rank was replaced). Then everything is computed again from its tokens. Empty: never.
  std::function<bool()> cache_lost{};
};

class Engine final : public GenerationEngine {
 public:
  // Starts the step thread.
  Engine(EngineOptions options, EngineParts parts);
  ~Engine() override;

  absl::StatusOr<std::vector<SequenceId>> SubmitAll(std::vector<Submission> choices) override;
  void Cancel(SequenceId sequence) override;
  bool ready() const override;
  bool accepting() const override;
  bool live() const override;
  EngineLoad load() const override;
  Duration RetryAfter() const override;
  void ResetPrefixCache() override;
  int32_t max_model_len() const override;

  // Refuses new requests and returns when all others have ended and everybody was told; at the
  // deadline those left end with kUnavailable.
  void Stop(TimePoint deadline);

  // cluster_ready may have changed, or what a given-up step waited for: look now (it is looked at
  // every 20 ms anyway while something waits for it).
  void Wake();

  // Of the step thread, for whoever waits inside a step: ends what is over, and says whether all of
  // the step's sequences are, so that nobody needs what is waited for. One load and the clock where
  // nothing has happened.
  bool StepIsMoot();

  // Blocks that no sequence owns, as of the last step. All of them when nothing runs.
  int free_kv_blocks() const;

 private:
  absl::StatusOr<std::unique_ptr<Sequence>> MakeSequence(Submission choice);
  void NameBlocks(Sequence& sequence, const Sequence* before) const;

  const EngineOptions options_;
  const EngineParts parts_;
  const std::unique_ptr<ClusterGate> cluster_;
  const std::unique_ptr<RequestLedger> ledger_;
  const std::unique_ptr<StepLoop> loop_;  // of the step thread
  absl::Mutex join_mutex_;
  std::thread thread_ ABSL_GUARDED_BY(join_mutex_);
};

}  // namespace sheaf
