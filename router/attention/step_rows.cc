#include "router/attention/step_rows.h"

#include <utility>

#include "absl/strings/str_format.h"
#include "base/check.h"

namespace sheaf {

absl::Status StepRows::Set(const StepBatch& batch) {
  rows_.clear();
  logit_sources_.clear();
  logit_rows_.clear();
  for (size_t s = 0; s < batch.sequences.size(); ++s) {
    const StepSequence& sequence = batch.sequences[s];
    const int num_tokens = static_cast<int>(sequence.tokens.size());
    const int end = sequence.first_position + num_tokens;
    SHEAF_CHECK(end <= limits_.max_positions, "a sequence ends at max_model_len");
    SHEAF_CHECK(sequence.block_table.size() * limits_.block_size >= size_t(end),
                "blocks before tokens");
    for (int t = 0; t < num_tokens; ++t) {
      const TokenId token = sequence.tokens[t];
      if (token < 0 || token >= limits_.vocab_size) {
        return absl::InvalidArgumentError(
            absl::StrFormat("token id: wanted 0 to %d, got %d", limits_.vocab_size - 1, token));
      }
      if (t >= sequence.first_logit_token) {
        logit_sources_.push_back({static_cast<int>(s), t});
        logit_rows_.push_back(static_cast<int>(rows_.size()));
      }
      rows_.push_back(
          {static_cast<int>(s), sequence.first_position + t, sequence.block_table.data()});
    }
  }
  if (rows_.size() > size_t(limits_.max_rows)) {
    return absl::InvalidArgumentError(absl::StrFormat("tokens in a step: wanted at most %d, got %d",
                                                      limits_.max_rows, rows_.size()));
  }
  return absl::OkStatus();
}

std::span<const int> StepRows::Drop(const StepWatch& watch) {
  kept_.clear();
  size_t logit = 0, kept_logits = 0;
  for (size_t r = 0; r < rows_.size(); ++r) {
    const bool stays = !watch.IsOver(rows_[r].sequence);
    if (logit < logit_rows_.size() && logit_rows_[logit] == static_cast<int>(r)) {
      if (stays) {
        logit_sources_[kept_logits] = logit_sources_[logit];
        logit_rows_[kept_logits++] = static_cast<int>(kept_.size());
      }
      ++logit;
    }
    if (!stays) continue;
    rows_[kept_.size()] = rows_[r];
    kept_.push_back(static_cast<int>(r));
  }
  rows_.resize(kept_.size());
  logit_rows_.resize(kept_logits);
  logit_sources_.resize(kept_logits);
  return kept_;
}

}  // namespace sheaf
