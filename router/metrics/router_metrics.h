#pragma once
// RouterMetrics: every figure that a router exposes, as verbs. docs/metrics.md lists the names with
// unit and meaning; a test holds the two together.
//
// Who calls   the group of verbs says so; no figure has two callers.
// Threads     all verbs from any thread; lock-free or one short lock.
// Ownership   the registry outlives this; it may hold other components' figures too.
// Labels      few values each: faces, outcomes. Never a request, a model text or an
//             address.

#include <cstdint>
#include <string>

#include "base/clock.h"
#include "prometheus/counter.h"
#include "prometheus/gauge.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"

namespace sheaf {

// How one API request (whatever its number of choices) ended.
enum class RequestOutcome {
  kStop,         // every choice by a stop token or string
  kLength,       // at least one choice by max_tokens or the end of the context
  kCancelled,    // the client went away
  kDeadline,     // the client's deadline passed
  kInvalid,      // refused: the request is wrong
  kRejected,     // refused: the queue was full; or ended because the client read too slowly
  kUnavailable,  // not ready, shutting down, or a worker was lost
  kError,        // anything else
};

enum class RequestFace { kHttp, kGrpc };

// As the labels have them.
const char* NameOf(RequestOutcome outcome);
const char* NameOf(RequestFace face);

class RouterMetrics {
 public:
  RouterMetrics(prometheus::Registry& registry, const std::string& version);
  RouterMetrics(const RouterMetrics&) = delete;
  RouterMetrics& operator=(const RouterMetrics&) = delete;

  // --- cli, while the weights load: in [0, 1].
  void LoadProgressIs(double share);

  // --- router/api: one call each for a request, a choice's first token, a further token.
  void RequestEnded(RequestFace face, RequestOutcome outcome, Duration since_arrival);
  void FirstToken(Duration since_arrival);
  void NextToken(Duration since_previous);
  void ConnectionsChanged(RequestFace face, int change);
  // Closed or told 503 because there were too many, or descriptors nearly out.
  void ConnectionRefused(RequestFace face);
  // A gRPC call whose client left before its end.
  void CallReset();

  // --- router/schedule: after each step, and when the queue changes while nothing runs.
  void QueueIs(int64_t queued, int64_t running);
  void KvBlocksAre(int64_t used, int64_t capacity);
  // Tokens of this step: computed of prompts (chunked prefill), computed of sequences that decode.
  struct StepTokens {
    int64_t prompt = 0;
    int64_t decode = 0;
  };
  void StepDone(const StepTokens& tokens, Duration step);
  // Of a step that ran to its end: what the plan said that it takes (0: it could not say), and what
  // its prefills were planned for (0: not bounded by time).
  void StepWasPlanned(Duration predicted, Duration target, Duration step);
  // CPU time of the step thread between two forward passes.
  void SchedulingTook(Duration cpu);
  // New tokens that clients were told, and of those the ones that a guide appended without
  // sampling.
  void TokensTold(int64_t generated, int64_t forced);
  void Preempted();
  // A sequence begins to be computed: of so many tokens, so many are in the prefix cache.
  void PrefixLookedUp(int64_t tokens, int64_t cached);
  void PrefixBlocksAre(int64_t cached);
  void PrefixBlocksEvicted(int64_t blocks);
  // The prefix cache's second tier, in blocks; all but the first since the last call.
  struct OffloadedBlocks {
    int64_t held = 0;
    int64_t kept = 0;
    int64_t lost = 0;
    int64_t loaded = 0;
    int64_t failed = 0;
  };
  void BlocksOffloaded(const OffloadedBlocks& blocks);
  // A choice with a grammar or a budget of thoughts has ended; by an error of the guide?
  void GuidedEnded(bool guide_error);
  // Calls of tools that the request had not declared; they were answered as text.
  void UndeclaredToolCalls(int calls);
  // Prompts that begin twice with the tokens that the tokenizer puts before prompts.
  void DoubledPrefixes(int prompts);

 private:
  static constexpr int kFaces = 2;
  static constexpr int kOutcomes = 8;

  prometheus::Gauge& load_progress_;
  prometheus::Counter* requests_[kFaces][kOutcomes];
  prometheus::Gauge* connections_[kFaces];
  prometheus::Counter* refused_connections_[kFaces];
  prometheus::Counter& call_resets_;
  prometheus::Histogram& request_duration_;
  prometheus::Histogram& time_to_first_token_;
  prometheus::Histogram& inter_token_latency_;
  prometheus::Gauge& queued_;
  prometheus::Gauge& running_;
  prometheus::Gauge& kv_blocks_used_;
  prometheus::Gauge& kv_blocks_capacity_;
  prometheus::Counter& prompt_tokens_;
  prometheus::Counter& generated_tokens_;
  prometheus::Counter& steps_;
  prometheus::Counter& scheduling_cpu_;
  prometheus::Histogram& step_duration_;
  prometheus::Histogram& step_tokens_;
  prometheus::Histogram& step_time_ratio_;
  prometheus::Gauge& step_target_;
  prometheus::Counter& preemptions_;
  prometheus::Counter& prefix_queries_;
  prometheus::Counter& prefix_hits_;
  prometheus::Gauge& prefix_blocks_;
  prometheus::Counter& prefix_evictions_;
  prometheus::Gauge& offload_held_;
  prometheus::Counter& offload_kept_;
  prometheus::Counter& offload_lost_;
  prometheus::Counter& offload_loaded_;
  prometheus::Counter& offload_failed_;
  prometheus::Counter& forced_tokens_;
  prometheus::Counter& guided_sequences_;
  prometheus::Counter& guide_errors_;
  prometheus::Counter& undeclared_tool_calls_;
  prometheus::Counter& doubled_prefixes_;
};

}  // namespace sheaf
