#pragma once
// Sequence: one generation from submit to end, as the step thread knows it: its tokens, guide and
// KV blocks. What its client is told (text, stop strings, events) is its OutputTeller's
// (delivery/output_teller.h).
//
// Accept takes the new tokens one by one, sampled or forced by the guide, and decides what tokens
// alone decide of the end, in this order: stop token (not before min_tokens: those are masked for
// the sampler then, unless the guide says that nothing else can follow), max_tokens, max_model_len.
// A stop string ends the sequence before the last two do, if both come with one token.
//
// Prior      output that was generated elsewhere is accepted once, before the sequence runs, with
//            the same decisions; so text, guide, counts and penalties are as if it had been
//            generated here. The sink gets it as one event.
// Prompt     shared with the request's other choices until the first output token.
// Guide      one of its own if the request has a plan. It is ahead of tokens() only while a step's
//            tokens are on their way from ChooseNext to Accept, so it outlives a preemption.
// Ownership  owns the request and shares the teller; tokenizer outlives it. KV blocks are the
//            allocator's: the engine frees them before the sequence goes.
// Threads    the step thread only, except PromptSlot: distinct positions from several threads; and
//            history and guide: one thread at a time.
// Errors     TakePriorOutput: kInvalidArgument naming the position; the guide's.

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/clock.h"
#include "kernels/sampling/token_counts.h"
#include "router/schedule/blocks/prefix_cache.h"
#include "router/schedule/delivery/output_teller.h"
#include "router/schedule/generation.h"
#include "router/text/guide/output_guide.h"

namespace sheaf {

class Sequence {
 public:
  struct Limits {
    std::span<const TokenId> eos_token_ids;
    int max_model_len = 0;
  };

  Sequence(SequenceId id, GenerationRequest request, std::shared_ptr<GenerationSink> sink,
           const Tokenizer& tokenizer, std::shared_ptr<const StopStrings> stop_strings,
           const Limits& limits, TimePoint submitted, std::unique_ptr<OutputGuide> guide = nullptr);

  // Accepts request.prior_output, which leaves room for a token (Admission::CheckFits); once,
  // before anything else. After an error the sequence is of no use.
  absl::Status TakePriorOutput();

  SequenceId id() const { return id_; }
  const std::shared_ptr<OutputTeller>& teller() const { return teller_; }
  // Its prompt and prior output are in tokens().
  const GenerationRequest& request() const { return request_; }
  TimePoint submitted() const { return submitted_; }

  // Prompt, then output.
  std::span<const TokenId> tokens() const {
    return tokens_.empty() ? std::span<const TokenId>(request_.prompt) : tokens_;
  }
  int total_tokens() const { return static_cast<int>(tokens().size()); }
  int prompt_tokens() const { return prompt_tokens_; }
  int output_tokens() const { return total_tokens() - prompt_tokens_; }
  int prior_tokens() const { return prior_tokens_; }  // of the output, those from elsewhere
  // As many tokens as may still come, at least 1 before the end.
  int tokens_left() const;

  OutputGuide* guide() { return guide_.get(); }  // null: free
  // For the token that comes after tokens() and `ahead`; valid until the next call. The guide's
  // mask is not in it.
  kernels::SamplingHistory history(std::span<const TokenId> ahead = {});
  // EOS list (unless ignored) and stop_token_ids.
  std::span<const TokenId> stop_ids() const { return stop_ids_; }
  // Whether a stop token can say that the guide's grammar is at its end.
  bool CanStop() const { return !request_.stop.ignore_eos && !stop_ids_.empty(); }
  // Whether `token` ends the sequence when `offset` more tokens have come before it.
  bool Stops(TokenId token, int offset) const;

  // The state of the cache, kept by the engine.
  std::vector<int32_t> blocks;
  CachedPrefix prefix;
  int computed_tokens = 0;  // positions whose K and V are in `blocks`
  uint64_t last_step = 0;
  Duration waited{0};  // from its submission until it was prefilled, or up to now
  bool prefilled = false;  // all tokens of some moment since the admission are in the cache
  std::optional<TimePoint> admitted;  // first admission
  int cached_tokens = 0;              // of the prompt, not computed at the first admission

  // At its beginning, as many tokens as need no row when they are in the cache: the last one has
  // the logits that are sampled, and those before a token of the prompt its log-probabilities.
  int reusable_tokens() const;

  // Of a chunk of the next num_tokens tokens: whether its last row is sampled, and the first row
  // that wants logits (num_tokens: none), prompt log-probabilities included.
  bool ChunkSamples(int num_tokens) const { return computed_tokens + num_tokens == total_tokens(); }
  int FirstLogitToken(int num_tokens) const;

  // Before a chunk is run: makes room for its prompt log-probabilities.
  void BeginChunk(int num_tokens);
  // Where the log-probabilities of the prompt token after `position` belong; null when not asked
  // for or known from before a preemption.
  std::optional<TokenLogprobs>* PromptSlot(int position);

  // num_tokens more are in the cache.
  void Advance(int num_tokens);
  // After Accept: `count` of the tokens accepted were computed in the same step, as drafts.
  void AdvanceOverDraft(int count) { computed_tokens += count; }
  // The prompt's log-probabilities that have become known since the last call.
  std::optional<PromptLogprobsPiece> TakePromptLogprobs();
  // The cache's content is given up; it will be computed again.
  void Restart() {
    computed_tokens = 0;
    prefilled = false;
  }

  // Returns the reason when this token is the last: kStop for a stop token alone.
  std::optional<FinishReason> Accept(TokenId token);

 private:
  bool IsStopToken(TokenId token) const;
  absl::Status AcceptPrior(TokenId token);
  absl::Status CheckPrior(TokenId token);
  void Append(TokenId token);
  const kernels::TokenCounts& CountsWith(std::span<const TokenId> ahead);

  const SequenceId id_;
  GenerationRequest request_;
  const std::shared_ptr<OutputTeller> teller_;
  const int max_model_len_;
  const TimePoint submitted_;
  const int prompt_tokens_;
  int prior_tokens_ = 0;

  std::vector<TokenId> tokens_;  // empty: no output yet, and the prompt is the request's
  std::vector<TokenId> stop_ids_;
  std::vector<TokenId> banned_;  // of the last history()
  std::vector<TokenId> output_and_ahead_;
  const std::unique_ptr<OutputGuide> guide_;
  // Of tokens(), once a penalty has asked for them.
  std::optional<kernels::TokenCounts> counts_;
  std::optional<kernels::TokenCounts> counts_with_ahead_;  // and of ahead_, within a step
  std::vector<TokenId> ahead_;
  // Prompt log-probabilities: of `wanted_` tokens the first `done_` are known (the first token has
  // none), of those the first `taken_` were taken; from there on they are in the piece.
  int logprobs_wanted_ = 0;
  int logprobs_done_ = 1;
  int logprobs_taken_ = 0;
  std::vector<std::optional<TokenLogprobs>> logprobs_piece_;
};

}  // namespace sheaf
