#pragma once
// EngineObserver: what the engine tells whoever measures it. The engine knows no metrics library;
// cli/ connects it to one. Durations are of the engine's clock.
//
// Threads: OnTold, OnFirstToken, OnNextToken and OnRequestEnd from the threads of delivery/,
// several at a time (where there are none: from the step thread); the others from the step thread.
// They must not block.

#include <array>
#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "base/clock.h"
#include "router/schedule/generation.h"
#include "router/schedule/speculation/draft_record.h"

namespace sheaf {

// Why a step was given up: the cluster did not answer, or all of its sequences were over.
enum class GiveUpCause { kNone, kUnavailable, kMoot };

// Of a step given up, the tokens are those that it was to run.
struct StepReport {
  StepId step;
  Duration duration{0};   // plan to last sampled token
  Duration predicted{0};  // by the cost model; 0: it knows nothing yet
  Duration target{0};     // what its prefills were planned for; 0: not bounded by time
  // Of the step thread's CPU time, what it spent since the last forward pass: ending, planning,
  // handing over.
  Duration scheduling_cpu{0};
  int sequences = 0;
  int prefill_tokens = 0;    // of prompts, and of what is computed again after a preemption
  int decode_tokens = 0;     // the newest tokens of sequences past their prefill
  int generated_tokens = 0;  // new tokens, with those that ToldTokens will leave out
  int forced_tokens = 0;     // of those, appended by a guide without sampling
  int preempted = 0;
  int displaced = 0;  // before it, to make room for another's share
  // Of drafts (speculation/): sequences that had one, their tokens, and at each position those that
  // came true.
  int drafts = 0;
  int drafted_tokens = 0;
  std::array<int, DraftRecord::kLongest> accepted_at{};
  int evicted_blocks = 0;  // of the prefix cache, since the last step
  int ended = 0;          // of the sequences, were over before the step was
  bool given_up = false;  // no request failed; its tokens are computed again
  GiveUpCause give_up_cause = GiveUpCause::kNone;
  absl::Status status;  // of the forward pass
};

// New tokens that clients were told, each once; those run beyond a stop string never.
struct ToldTokens {
  int tokens = 0;
  int forced = 0;  // of those, appended by a guide without sampling
};

// Since the start, in requests (their choices together); too_late also those, by choice, that were
// ended at their turn.
struct QueueRefusals {
  int64_t full = 0;        // as many requests or tokens wait as may
  int64_t never_fits = 0;  // more choices or tokens than ever may wait together
  int64_t too_late = 0;    // could not have ended before the deadline
};

struct QueueReport {
  int64_t tokens = 0;  // of those that wait: prompts, and outputs that are to be computed again
  QueueRefusals refused;
};

// Of what the client was told.
struct RequestReport {
  FinishReason reason = FinishReason::kStop;
  absl::StatusCode code = absl::StatusCode::kOk;
  int prompt_tokens = 0;
  int completion_tokens = 0;
  int prior_tokens = 0;      // of those, generated elsewhere and sent with the request
  bool guided = false;       // by a grammar or a budget of thoughts
  bool guide_error = false;  // the guide's own, or a conflict with it, ended the request
  Duration queued{0};        // submit to first admission
  std::optional<Duration> first_token{};  // submit to its first new token; nullopt: there was none
  Duration total{0};         // submit to end
};

// In blocks; all but `held` since the last report.
struct SecondTierReport {
  int64_t held = 0;    // now
  int64_t kept = 0;    // evicted from the KV cache, and here now
  int64_t lost = 0;    // evicted, and there was no time to copy them
  int64_t loaded = 0;  // back in the KV cache
  int64_t failed = 0;  // bad checksums, errors of the file: misses
  absl::Status remark;  // of the last failure
};

class EngineObserver {
 public:
  virtual ~EngineObserver() = default;
  virtual void OnLoad(const EngineLoad& /*load*/) {}
  virtual void OnQueue(const QueueReport& /*queue*/) {}
  // Nothing that was computed is there any more: so many running sequences lost so many tokens.
  virtual void OnCacheLost(int /*sequences*/, int64_t /*tokens*/) {}
  // A choice runs for the first time.
  virtual void OnAdmitted(Duration /*since_submit*/) {}
  virtual void OnStep(const StepReport& /*report*/) {}
  // The second tier of the prefix cache, if there is one: after steps that may have changed it.
  virtual void OnSecondTier(const SecondTierReport& /*report*/) {}
  // A sequence is admitted for the first time: of so many tokens, so many were in the prefix cache.
  virtual void OnPrefixLookup(int /*tokens*/, int /*cached_tokens*/) {}
  virtual void OnTold(const ToldTokens& /*told*/) {}
  virtual void OnFirstToken(Duration /*since_submit*/) {}
  virtual void OnNextToken(Duration /*since_previous_token*/) {}
  // Before the client hears of the end, unless by a stop string.
  virtual void OnRequestEnd(const RequestReport& /*report*/) {}
};

}  // namespace sheaf
