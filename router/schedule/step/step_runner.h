#pragma once
// StepRunner: one planned step through the decoder and the sampler.
//
// Rows are read on the pool: masks, samples and forced runs of different sequences side by side.
// A forced run is cut at kLongestRun tokens, so that no step tells a client an unbounded number at
// once; with log-probabilities asked for at one token, because each needs a row of its own.
//
// Drafts     a sequence at the end of what is known may bring tokens that may come next: each is
//            one more row, and the rows are read in order for as long as the tokens chosen are
//            those of the draft. What lies in the cache behind the last of them is computed again
//            before it is read.
//
// Shapes     results[i] belongs to runs[i].
// Threads    the step thread; it uses the whole pool.
// Errors     Run returns the forward pass's; then no result counts. A result's own status concerns
//            that sequence alone.

#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "base/thread_pool.h"
#include "router/attention/decoder.h"
#include "router/schedule/step/next_tokens.h"
#include "router/schedule/step/sequence.h"

namespace sheaf {

struct SequenceRun {
  Sequence* sequence = nullptr;  // has blocks for all its tokens up to computed_tokens + num_tokens
  int num_tokens = 0;
  // Only of one whose num_tokens end what is known; it has blocks for these, too. Shorter than
  // tokens_left().
  std::span<const TokenId> draft{};
};

struct SequenceResult {
  absl::Status status;
  NextTokens next;  // none: the chunk does not reach the end of what is known
  std::vector<TokenLogprobs> logprobs;  // by index of next.tokens; empty where not asked for
  int drafts_accepted = 0;  // the cache holds so many of the draft's tokens, and they came true
};

class StepRunner {
 public:
  static constexpr int kLongestRun = 64;

  StepRunner(Decoder& decoder, ThreadPool& pool) : decoder_(decoder), pool_(pool) {}

  // What `watch` finds over gets no result that counts.
  absl::Status Run(StepId step, std::span<const SequenceRun> runs, StepWatch& watch,
                   std::vector<SequenceResult>& results);

 private:
  // One row, or all rows in the group of a sequence with a draft.
  struct RowItem {
    size_t first = 0;
    size_t count = 0;
  };

  void AddToBatch(const SequenceRun& run);
  void ReadPromptRow(std::span<float> logits, const SequenceRun& run, int token,
                     SequenceResult& result);
  void ReadLastRow(std::span<float> logits, const SequenceRun& run, int token,
                   SequenceResult& result);

  Decoder& decoder_;
  ThreadPool& pool_;
  std::vector<StepSequence> batch_;                 // reused, as are:
  std::vector<std::vector<TokenId>> with_drafts_;  // inputs that are not in one piece elsewhere
  std::vector<RowItem> items_;
};

}  // namespace sheaf
