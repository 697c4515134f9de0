#include "router/schedule/step_runner.h"

#include <utility>

#include "kernels/sampling.h"
#include "router/schedule/token_logprobs.h"

namespace sheaf {

absl::Status StepRunner::Run(StepId step, std::span<const SequenceRun> runs,
                             std::vector<SequenceResult>& results) {
  batch_.clear();
  for (const SequenceRun& run : runs) {
    const Sequence& sequence = *run.sequence;
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
      if (row_results[i].token.has_value()) {
        result.token = row_results[i].token;
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
  absl::StatusOr<TokenId> chosen =
      kernels::SampleToken(logits, sequence.request().sampling, sequence.history());
  if (!chosen.ok()) {
    result.status = chosen.status();
    return;
  }
  result.token = *chosen;
  if (!num_top.has_value()) return;
  absl::StatusOr<TokenLogprobs> logprobs = ComputeLogprobs(raw, *chosen, *num_top);
  if (logprobs.ok()) {
    result.logprobs = *std::move(logprobs);
  } else {
    result.status = logprobs.status();
  }
}

}  // namespace sheaf
