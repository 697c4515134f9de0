#pragma once
// StepRows: the tokens of the step in flight, one a row, and which of them want logits; rows go
// when their sequences are over (step_watch.h).
//
// Threads    the step thread; constant while the pool computes.
// Errors     Set: kInvalidArgument: more rows than max_rows, or an id outside the vocabulary.

#include <span>
#include <vector>

#include "absl/status/status.h"
#include "router/attention/attention.h"
#include "router/attention/decoder.h"
#include "router/attention/step_watch.h"

namespace sheaf {

class StepRows {
 public:
  struct Limits {
    int max_rows = 0;
    int max_positions = 0;
    int block_size = 0;  // tokens
    int vocab_size = 0;
  };

  explicit StepRows(const Limits& limits) : limits_(limits) {}

  absl::Status Set(const StepBatch& batch);

  // Lets the rows of what is over go; of those before, returns the indexes of the ones that stay.
  std::span<const int> Drop(const StepWatch& watch);

  int size() const { return static_cast<int>(rows_.size()); }
  std::span<const StepRow> all() const { return rows_; }
  const StepRow& operator[](int64_t row) const { return rows_[static_cast<size_t>(row)]; }

  // Of the rows that want logits, in order: where they come from, and their indexes.
  std::span<const LogitRows::Source> logit_sources() const { return logit_sources_; }
  std::span<const int> logit_rows() const { return logit_rows_; }

 private:
  const Limits limits_;
  std::vector<StepRow> rows_;
  std::vector<LogitRows::Source> logit_sources_;
  std::vector<int> logit_rows_;
  std::vector<int> kept_;
};

}  // namespace sheaf
