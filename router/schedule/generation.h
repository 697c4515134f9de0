#pragma once
// What the API asks of the engine and what it gets back: one prompt in, a stream of token events
// and one end out.
//
// GenerationRequest is validated by router/api before Submit (limits, ranges); the engine checks
// only what it alone knows (queue, vocabulary, KV cache). Chat and text are already token ids here.
//
// Threads    Engine methods: any thread. Sink methods are called one at a time, in order, from a
//            thread of delivery/, and must not block (they hand over to the API's own threads).
//            After OnEnd nothing more is called and the sink is released.
// Errors     SubmitAll: kResourceExhausted (queue full; RetryAfter()), kUnavailable (never ready
//            yet, draining), kDeadlineExceeded (it would surely end after its deadline),
//            kInvalidArgument (never fits the KV cache, or the queue however empty; a prior output
//            that this request cannot have had, or that has ended), the guide's. Everything later
//            arrives in OnEnd; of a request alone: kInvalidArgument when its wishes leave no token
//            that may come next (a grammar against allowed_token_ids or bad_words), the grammar's
//            own errors.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/ids.h"
#include "kernels/sampling/sampling.h"
#include "router/schedule/prompt_tokens.h"
#include "router/text/guide/guide_plan.h"

namespace sheaf {

struct StopConditions {
  int32_t max_tokens = 16;  // >= 1
  int32_t min_tokens = 0;   // a grammar that is at its end ends the output all the same
  bool ignore_eos = false;  // a grammar's end then ends the output by itself (kStop, no stop token)
  std::vector<TokenId> stop_token_ids{};  // beside the model's EOS list
  std::vector<std::string> stop_strings{};
  bool include_stop_string = false;
};

struct GenerationRequest {
  std::string request_id;
  PromptTokens prompt;  // shared by its copies
  // What another engine generated for this same request before it was lost: the output goes on
  // after it, with what would have come. It counts as output in every way (seed, penalties, stop,
  // guide).
  std::vector<TokenId> prior_output{};
  kernels::SamplingParams sampling;
  StopConditions stop;
  // Each a sequence of at least one token: its last one may not come where the output ends with the
  // rest.
  std::vector<std::vector<TokenId>> bad_words{};
  std::shared_ptr<const GuidePlan> guide{};  // null: free, and reasoning tokens are not counted
  bool skip_special_tokens = true;
  std::optional<int32_t> logprobs;  // top-n beside the chosen token; -1 = whole vocabulary
  std::optional<int32_t> prompt_logprobs;
  std::optional<TimePoint> deadline;

  // How it stands to other requests. None of these changes what it answers.
  int32_t priority = 0;        // lower is earlier
  std::string fairness_key{};  // keys get equal shares; within a key, requests do
  std::string cache_salt{};    // prompts share cached blocks only with others of the same salt
};

// Natural logarithms of the raw distribution (before penalties and temperature).
struct TokenLogprob {
  TokenId token = 0;
  float logprob = 0;
  int32_t rank = 1;  // 1 = most probable
};

struct TokenLogprobs {
  TokenLogprob chosen;
  std::vector<TokenLogprob> top;  // most probable first
};

// One generated token. `text` may be empty (half a character, a possible stop string) or hold
// earlier text too. A forced token is one that the guide appended without sampling.
struct TokenEvent {
  TokenId token = 0;
  int32_t index = 0;  // in the output, from 0
  std::string text;
  std::optional<TokenLogprobs> logprobs;
  bool forced = false;
  // Where the token's own text ends, in bytes of the whole output's text before stop strings are
  // cut out: it may lie beyond the text that has come so far. -1: with this event's text.
  int64_t text_end = -1;
};

enum class FinishReason { kStop, kLength, kCancelled, kError };

struct GenerationEnd {
  FinishReason reason = FinishReason::kStop;
  absl::Status status;                     // not OK iff kError (deadline, no workers for long, ...)
  std::string text;                        // text held back until now
  std::optional<std::string> stop_string;  // what matched
  std::optional<TokenId> stop_token;       // the stop id that ended it (EOS list included)
  int32_t prompt_tokens = 0;
  int32_t cached_tokens = 0;  // of the prompt: found in the prefix cache instead of computed
  int32_t completion_tokens = 0;  // prior output included
  // Of those, thoughts without their tags (thought_tracker.h). 0 without a guide.
  int32_t reasoning_tokens = 0;
  Duration queued{0};  // submit to first admission
};

struct EngineLoad {
  int queued = 0;  // waiting requests, preempted ones included
  int running = 0;
  int used_blocks = 0;
  int total_blocks = 0;
  int cached_blocks = 0;  // in the prefix cache, whether in use or not
};

class GenerationSink {
 public:
  virtual ~GenerationSink() = default;
  // Before anything else, if the request has prior output: its tokens and the text that each gave
  // where it was generated. Not news to the client; what follows goes on from there.
  virtual void OnPriorOutput(std::vector<TokenEvent> /*tokens*/) {}
  // Before the first token: submit to first admission.
  virtual void OnAdmitted(Duration /*queued*/) {}
  // Before the first token, if prompt_logprobs was asked: one entry a prompt token; the first has
  // none. They come in pieces, as they are computed: `first` is the prompt's token of a piece's
  // first entry, and each piece begins where the last one ended.
  virtual void OnPromptLogprobs(int first, std::vector<std::optional<TokenLogprobs>> piece) = 0;
  virtual void OnToken(TokenEvent event) = 0;
  virtual void OnEnd(GenerationEnd end) = 0;
};

// The engine as the API sees it (router/schedule/engine.h implements it; tests/fakes has another).
class GenerationEngine {
 public:
  virtual ~GenerationEngine() = default;
  struct Submission {
    GenerationRequest request;
    std::shared_ptr<GenerationSink> sink;
  };
  // The choices of one API request, at least one: all are taken, or none and no sink is called. The
  // ids are in the order of the choices.
  virtual absl::StatusOr<std::vector<SequenceId>> SubmitAll(std::vector<Submission> choices) = 0;
  // A request of one choice.
  absl::StatusOr<SequenceId> Submit(GenerationRequest request,
                                    std::shared_ptr<GenerationSink> sink) {
    std::vector<Submission> choices;
    choices.push_back({std::move(request), std::move(sink)});
    const absl::StatusOr<std::vector<SequenceId>> ids = SubmitAll(std::move(choices));
    if (!ids.ok()) return ids.status();
    return ids->front();
  }
  // Frees the sequence within a step; its sink gets OnEnd(kCancelled). Unknown or ended ids are
  // ignored.
  virtual void Cancel(SequenceId sequence) = 0;
  // True when requests would be run now (workers joined, not draining).
  virtual bool ready() const = 0;
  // True when Submit would take a request, to run it now or when lost workers are replaced.
  virtual bool accepting() const { return ready(); }
  // False when the engine hangs: it could run a step and has not ended one for a long time. An idle
  // engine is live, and so is one that waits for workers: starting it anew would not help.
  virtual bool live() const = 0;
  virtual EngineLoad load() const = 0;
  // A hint for clients refused with kResourceExhausted.
  virtual Duration RetryAfter() const = 0;
  // Requests that are submitted from now on are computed from their first token; those that run
  // keep what they have.
  virtual void ResetPrefixCache() {}
  // The longest prompt + output in tokens.
  virtual int32_t max_model_len() const = 0;
};

}  // namespace sheaf
