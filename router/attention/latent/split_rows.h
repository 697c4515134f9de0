#pragma once
// SplitRows: rows of a step, of which each rank makes some columns and all ranks have all, in turn.
// Of a single rank it is one buffer.
//
// Ownership  its buffers, for max_batched_tokens rows.
// Threads    the step thread.
// Errors     PutTogether: those of RankRows. Of a single rank none.

#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "router/attention/attention.h"
#include "router/attention/rank_rows.h"
#include "router/attention/scratch.h"

namespace sheaf {

class SplitRows {
 public:
  SplitRows(const AttentionParts& parts, int width, IndexRange RankShare::*columns)
      : own_columns_((parts.share.*columns).count), width_(width), all_(Floats(parts, width)) {
    if (parts.ranks == nullptr) return;
    own_.emplace(Floats(parts, own_columns_));
    for (const RankShare& share : parts.ranks->shares) columns_.push_back(share.*columns);
  }

  // What this rank makes: [rows][own_columns()].
  int own_columns() const { return own_columns_; }
  float* own() const { return own_ ? own_->data() : all_.data(); }
  // What all made, once it is put together: [rows][width].
  float* all() const { return all_.data(); }
  RankRows::Piece piece() const { return {own(), columns_, width_, all_.data()}; }

 private:
  static size_t Floats(const AttentionParts& parts, int columns) {
    return size_t(parts.max_batched_tokens) * static_cast<size_t>(columns);
  }

  const int own_columns_;
  const int width_;
  Scratch all_;
  std::optional<Scratch> own_;  // of several ranks
  std::vector<IndexRange> columns_;
};

// Of several ranks, in one gather.
inline absl::Status PutTogether(const AttentionParts& parts, int num_rows,
                                std::span<const RankRows::Piece> pieces) {
  if (parts.ranks == nullptr) return absl::OkStatus();
  StageTimer timer(parts.timings, &StepTimings::gather);
  return parts.ranks->rows.PutTogether(num_rows, pieces);
}

}  // namespace sheaf
