#pragma once
// Sequence: one generation from submit to end: its tokens, text, KV blocks, and what its client is
// told.
//
// Accept takes the new tokens one by one, sampled or forced by the guide, and decides the end, in
// this order: stop token (not before min_tokens: those are masked for the sampler then, unless the
// guide says that nothing else can follow), stop string, max_tokens, max_model_len.
//
// Prior      output that was generated elsewhere is accepted once, before the sequence runs, with the
//            same decisions; so text, guide, counts and penalties are as if it had been generated
//            here. The sink gets it as one event.
// Guide      one of its own if the request has a plan. It is ahead of tokens() only while a step's
//            tokens are on their way from ChooseNext to Accept, so it outlives a preemption.
// Ownership  owns the request and shares the sink; tokenizer outlives it. KV blocks are the
//            allocator's: the engine frees them before the sequence goes.
// Threads    the step thread only, except PromptSlot: distinct positions from several threads; and
//            history and guide: one thread at a time.
// Errors     TakePriorOutput: kInvalidArgument naming the position; the guide's. Otherwise none of
//            its own; End passes on the engine's.

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/clock.h"
#include "router/schedule/blocks/prefix_cache.h"
#include "router/schedule/generation.h"
#include "router/text/guide/output_guide.h"
#include "router/text/text_stream.h"

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

  // Accepts request.prior_output, which leaves room for a token (Admission::CheckFits); once, before
  // anything else. After an error the sequence is of no use.
  absl::Status TakePriorOutput();

  SequenceId id() const { return id_; }
  // Its prompt and prior output are in tokens().
  const GenerationRequest& request() const { return request_; }
  TimePoint submitted() const { return submitted_; }

  // Prompt, then output.
  std::span<const TokenId> tokens() const { return tokens_; }
  int total_tokens() const { return static_cast<int>(tokens_.size()); }
  int prompt_tokens() const { return prompt_tokens_; }
  int output_tokens() const { return total_tokens() - prompt_tokens_; }
  int prior_tokens() const { return prior_tokens_; }  // of the output, those from elsewhere
  // As many tokens as may still come, at least 1 before the end.
  int tokens_left() const;

  OutputGuide* guide() { return guide_.get(); }  // null: free
  // For the token that comes after tokens() and `ahead`; valid until the next call. The guide's mask
  // is not in it.
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
  std::optional<TimePoint> last_token;

  // At its beginning, as many tokens as need no row when they are in the cache: the last one has the
  // logits that are sampled, and those before a token of the prompt its log-probabilities.
  int reusable_tokens() const;

  // Of a chunk of the next num_tokens tokens: whether its last row is sampled, and the first row
  // that wants logits (num_tokens: none), prompt log-probabilities included.
  bool ChunkSamples(int num_tokens) const { return computed_tokens + num_tokens == total_tokens(); }
  int FirstLogitToken(int num_tokens) const;

  // Where the log-probabilities of the prompt token after `position` belong; null when not asked
  // for or known from before a preemption.
  std::optional<TokenLogprobs>* PromptSlot(int position);

  // num_tokens more are in the cache.
  void Advance(int num_tokens);
  // After Accept: `count` of the tokens accepted were computed in the same step, as drafts.
  void AdvanceOverDraft(int count) { computed_tokens += count; }
  // The cache's content is given up; it will be computed again.
  void Restart() {
    computed_tokens = 0;
    prefilled = false;
  }

  // Tells the client. Returns the reason when this token is the last.
  std::optional<FinishReason> Accept(TokenId token, std::optional<TokenLogprobs> logprobs,
                                     bool forced = false);
  // The guide says that the output is complete as it is.
  FinishReason AcceptEnd();
  // Tells the client the end; call once, nothing after it.
  void End(FinishReason reason, absl::Status status);

 private:
  bool IsStopToken(TokenId token) const;
  absl::Status AcceptPrior(TokenId token);
  absl::Status CheckPrior(TokenId token);
  // What comes before the first token: prior output, prompt log-probabilities.
  void TellBeginning();

  const SequenceId id_;
  GenerationRequest request_;
  std::shared_ptr<GenerationSink> sink_;
  const int max_model_len_;
  const TimePoint submitted_;
  const int prompt_tokens_;
  int prior_tokens_ = 0;

  std::vector<TokenId> tokens_;
  std::vector<TokenId> stop_ids_;
  std::vector<TokenId> banned_;  // of the last history()
  std::vector<TokenId> output_and_ahead_;
  const std::unique_ptr<OutputGuide> guide_;
  ThoughtTracker thoughts_;  // over the tokens that the client was told
  TextStream text_;
  std::vector<TokenEvent> prior_;  // empty: none, or told already
  std::vector<std::optional<TokenLogprobs>>
      prompt_logprobs_;           // [prompt]; empty: not asked, or told already
  int prompt_logprobs_done_ = 1;  // entries filled; the first token has none
  std::optional<TokenId> stop_token_;
  std::optional<std::string> stop_string_;
};

}  // namespace sheaf
