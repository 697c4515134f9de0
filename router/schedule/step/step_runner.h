#pragma once
// StepRunner: one planned step through the decoder and the sampler.
//
// Rows are read on the pool: masks, samples and forced runs of different sequences side by side.
// A forced run is cut at kLongestRun tokens, so that no step tells a client an unbounded number at
// once; with log-probabilities asked for at one token, because each needs a row of its own.
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
};

struct SequenceResult {
  absl::Status status;
  NextTokens next;                        // none: the chunk does not reach the end of what is known
  std::optional<TokenLogprobs> logprobs;  // of the first token; then it is the only one
};

class StepRunner {
 public:
  static constexpr int kLongestRun = 64;

  StepRunner(Decoder& decoder, ThreadPool& pool) : decoder_(decoder), pool_(pool) {}

  // What `watch` finds over gets no result that counts.
  absl::Status Run(StepId step, std::span<const SequenceRun> runs, StepWatch& watch,
                   std::vector<SequenceResult>& results);

 private:
  void ReadRow(std::span<float> logits, const SequenceRun& run, int token, SequenceResult& result);

  Decoder& decoder_;
  ThreadPool& pool_;
  std::vector<StepSequence> batch_;  // reused
};

}  // namespace sheaf
