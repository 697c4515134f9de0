#include "router/schedule/step/step_runner.h"

#include <algorithm>
#include <utility>

#include "router/schedule/step/token_logprobs.h"

namespace sheaf {

absl::Status StepRunner::Run(StepId step, std::span<const SequenceRun> runs,
                             std::vector<SequenceResult>& results) {
  batch_.clear();
  for (const SequenceRun& run : runs) {
    Sequence& sequence = *run.sequence;
    sequence.BeginChunk(run.num_tokens);
    batch_.push_back({sequence.tokens().subspan(sequence.computed_tokens, run.num_tokens),
                      sequence.computed_tokens, sequence.blocks,
                      sequence.FirstLogitToken(run.num_tokens)});
  }
  results.assign(runs.size(), {});
  // A sequence may have many rows in a group (prompt log-probabilities): each its own status,
  // merged in order.
  std::vector<SequenceResult> row_results;
  return decoder_.Forward({step, batch_}, [&](const LogitRows& rows) {
    row_results.assign(rows.sources.size(), {});
    pool_.ParallelFor(rows.sources.size(), [&](int64_t i, int) {
      const LogitRows::Source source = rows.sources[i];
      ReadRow(rows.row(i), runs[source.sequence], source.token, row_results[i]);
    });
    for (size_t i = 0; i < row_results.size(); ++i) {
      SequenceResult& result = results[rows.sources[i].sequence];
      result.status.Update(std::move(row_results[i].status));
      NextTokens& next = row_results[i].next;
      if (!next.tokens.empty() || next.ended || next.guide_error) {
        result.next = std::move(next);
        result.logprobs = std::move(row_results[i].logprobs);
      }
    }
  });
}

void StepRunner::ReadRow(std::span<float> logits, const SequenceRun& run, int token,
                         SequenceResult& result) {
  Sequence& sequence = *run.sequence;
  result.status = CheckLogits(logits);
  if (!result.status.ok()) return;

  const int position = sequence.computed_tokens + token;
  if (std::optional<TokenLogprobs>* slot = sequence.PromptSlot(position)) {
    absl::StatusOr<TokenLogprobs> logprobs = ComputeLogprobs(
        logits, sequence.tokens()[position + 1], *sequence.request().prompt_logprobs);
    if (logprobs.ok()) {
      *slot = *std::move(logprobs);
    } else {
      result.status = logprobs.status();
    }
    return;
  }
  if (position + 1 < sequence.total_tokens()) return;

  const std::optional<int32_t> num_top = sequence.request().logprobs;
  // The sampler changes the row; log-probabilities are of the raw one.
  std::vector<float> raw;
  if (num_top.has_value()) raw.assign(logits.begin(), logits.end());
  const int longest = num_top.has_value() ? 1 : std::min(kLongestRun, sequence.tokens_left());
  result.status = ChooseNext(logits, sequence, longest, result.next);
  if (!result.status.ok() || !num_top.has_value() || result.next.ended) return;
  absl::StatusOr<TokenLogprobs> logprobs =
      ComputeLogprobs(raw, result.next.tokens.front(), *num_top);
  if (logprobs.ok()) {
    result.logprobs = *std::move(logprobs);
  } else {
    result.status = logprobs.status();
  }
}

}  // namespace sheaf
