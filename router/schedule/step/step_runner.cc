#include "router/schedule/step/step_runner.h"

#include <algorithm>
#include <utility>

#include "router/schedule/step/token_logprobs.h"

namespace sheaf {
namespace {

// How many of the tokens chosen are those of the draft, from its beginning.
int AgreeingTokens(std::span<const TokenId> draft, std::span<const TokenId> chosen) {
  const auto [mismatch, unused] = std::ranges::mismatch(draft, chosen);
  return static_cast<int>(mismatch - draft.begin());
}

}  // namespace

void StepRunner::AddToBatch(const SequenceRun& run) {
  Sequence& sequence = *run.sequence;
  sequence.BeginChunk(run.num_tokens);
  std::span<const TokenId> input =
      sequence.tokens().subspan(sequence.computed_tokens, run.num_tokens);
  if (!run.draft.empty()) {
    std::vector<TokenId>& joined = with_drafts_.emplace_back(input.begin(), input.end());
    joined.insert(joined.end(), run.draft.begin(), run.draft.end());
    input = joined;
  }
  batch_.push_back({input, sequence.computed_tokens, sequence.blocks,
                    sequence.FirstLogitToken(run.num_tokens)});
}

absl::Status StepRunner::Run(StepId step, std::span<const SequenceRun> runs, StepWatch& watch,
                             std::vector<SequenceResult>& results) {
  batch_.clear();
  with_drafts_.clear();
  with_drafts_.reserve(runs.size());  // spans of them are kept
  for (const SequenceRun& run : runs) AddToBatch(run);
  results.assign(runs.size(), {});
  const auto on_logits = [&](const LogitRows& rows) {
    // A sequence may have many prompt rows in a group, each read by itself.
    std::vector<absl::Status> prompt_status(rows.sources.size());
    items_.clear();
    for (size_t i = 0; i < rows.sources.size(); ++i) {
      const bool drafted = !runs[rows.sources[i].sequence].draft.empty();
      const bool same = i > 0 && rows.sources[i].sequence == rows.sources[i - 1].sequence;
      if (drafted && same) {
        ++items_.back().count;
      } else {
        items_.push_back({i, 1});
      }
    }
    const ItemCost cost = CostOfElements(2 * int64_t{rows.vocab_size});
    pool_.ParallelFor(static_cast<int64_t>(items_.size()), cost, [&](int64_t item, int) {
      for (size_t i = items_[item].first; i < items_[item].first + items_[item].count; ++i) {
        const auto [sequence, token] = rows.sources[i];
        if (watch.IsOver(sequence)) continue;
        const SequenceRun& run = runs[sequence];
        SequenceResult& result = results[sequence];
        if (run.sequence->computed_tokens + token + 1 < run.sequence->total_tokens()) {
          SequenceResult row;
          ReadPromptRow(rows.row(i), run, token, row);
          prompt_status[i] = std::move(row.status);
        } else if (result.status.ok()) {
          ReadLastRow(rows.row(i), run, token, result);
        }
      }
    });
    for (size_t i = 0; i < prompt_status.size(); ++i) {
      results[rows.sources[i].sequence].status.Update(std::move(prompt_status[i]));
    }
  };
  return decoder_.Forward({step, batch_}, on_logits, &watch);
}

// A row before the sequence's last: only the log-probabilities of the token after it may be wanted.
void StepRunner::ReadPromptRow(std::span<float> logits, const SequenceRun& run, int token,
                               SequenceResult& result) {
  Sequence& sequence = *run.sequence;
  result.status = CheckLogits(logits);
  const int position = sequence.computed_tokens + token;
  std::optional<TokenLogprobs>* const slot = sequence.PromptSlot(position);
  if (!result.status.ok() || slot == nullptr) return;
  absl::StatusOr<TokenLogprobs> logprobs = ComputeLogprobs(
      logits, sequence.tokens()[position + 1], *sequence.request().prompt_logprobs);
  if (logprobs.ok()) {
    *slot = *std::move(logprobs);
  } else {
    result.status = logprobs.status();
  }
}

// The row of the sequence's last token, or of a drafted one: in that order, one thread.
void StepRunner::ReadLastRow(std::span<float> logits, const SequenceRun& run, int token,
                             SequenceResult& result) {
  Sequence& sequence = *run.sequence;
  std::vector<TokenId>& chosen = result.next.tokens;
  const auto row = static_cast<size_t>(token - (run.num_tokens - 1));
  // A row whose input did not come true says nothing; nor does one whose token is known: a guide
  // forced it.
  if (result.next.ended || chosen.size() != row ||
      static_cast<size_t>(result.drafts_accepted) != row ||
      (row > 0 && sequence.Stops(chosen.back(), static_cast<int>(row) - 1))) {
    return;
  }
  result.status = CheckLogits(logits);
  if (!result.status.ok()) return;
  const std::optional<int32_t> num_top = sequence.request().logprobs;
  // The sampler changes the row; log-probabilities are of the raw one.
  thread_local std::vector<float> raw;
  if (num_top.has_value()) raw.assign(logits.begin(), logits.end());
  const int left = sequence.tokens_left() - static_cast<int>(row);
  const int longest = num_top.has_value() ? 1 : std::min(kLongestRun, left);
  result.status = ChooseNext(logits, sequence, longest, result.next);
  result.drafts_accepted = AgreeingTokens(run.draft, chosen);
  if (!result.status.ok() || !num_top.has_value() || result.next.ended) return;
  absl::StatusOr<TokenLogprobs> logprobs = ComputeLogprobs(raw, chosen.back(), *num_top);
  if (logprobs.ok()) {
    result.logprobs.push_back(*std::move(logprobs));
  } else {
    result.status = logprobs.status();
  }
}

}  // namespace sheaf
