#pragma once
// RankRows: rows whose columns the ranks have made apart, put together at every rank.
//
// Shapes     a piece: own [num_rows][own columns of this rank], all [num_rows][width]; every rank's
//            columns are of 0..width, and where two ranks have some of them, none is in both.
// Numbers    as they are: what the ranks made is not changed on the way. Rows that only integer
//            products read go as the groups of integers that those read, in half the bytes or
//            fewer, where each rank has whole groups of them.
// Threads    the step thread; copies over the pool.
// Errors     those of RankGroup; kDataLoss: another rank's part has another size than its share.
// Cost       one gather for all pieces of a call.

#include <span>
#include <vector>

#include "absl/status/status.h"
#include "base/thread_pool.h"
#include "exchange/gather/rank_group.h"
#include "kernels/linear/quantized_rows.h"
#include "model/rank_share.h"

namespace sheaf {

class RankRows {
 public:
  struct Piece {
    const float* own = nullptr;
    std::span<const IndexRange> columns;  // by rank; those of no count have no part
    int width = 0;
    float* all = nullptr;
  };

  // The same of quantized rows. Both buffers have num_rows rows of as many bits, of own columns and
  // of width.
  struct GroupsPiece {
    kernels::QuantizedRowsBuffer* own = nullptr;
    std::span<const IndexRange> columns;  // AreWholeGroups
    int width = 0;
    kernels::QuantizedRowsBuffer* all = nullptr;
  };

  RankRows(RankGroup& group, ThreadPool& pool) : group_(group), pool_(pool) {}

  static bool AreWholeGroups(std::span<const IndexRange> columns);

  absl::Status PutTogether(int num_rows, std::span<const Piece> pieces,
                           std::span<const GroupsPiece> groups = {});

 private:
  RankGroup& group_;
  ThreadPool& pool_;
  std::vector<uint8_t> own_;  // what this rank hands over, where that is not one piece as it lies
};

}  // namespace sheaf
