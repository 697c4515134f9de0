#include "router/attention/rank_rows.h"

#include <cstring>

#include "absl/strings/str_format.h"
#include "base/status.h"

namespace sheaf {
namespace {

size_t BytesOf(const RankRows::Piece& piece, int rank, int num_rows) {
  return sizeof(float) * num_rows * piece.columns[static_cast<size_t>(rank)].count;
}

}  // namespace

absl::Status RankRows::PutTogether(int num_rows, std::span<const Piece> pieces) {
  const int rank = group_.rank();
  std::span<const uint8_t> own;
  if (pieces.size() == 1) {
    own = {reinterpret_cast<const uint8_t*>(pieces[0].own), BytesOf(pieces[0], rank, num_rows)};
  } else {
    own_.clear();
    for (const Piece& piece : pieces) {
      const auto* const bytes = reinterpret_cast<const uint8_t*>(piece.own);
      own_.insert(own_.end(), bytes, bytes + BytesOf(piece, rank, num_rows));
    }
    own = own_;
  }
  SHEAF_ASSIGN_OR_RETURN(const RankGroup::Parts parts, group_.Gather(own));
  for (int other = 0; other < group_.num_ranks(); ++other) {
    size_t wanted = 0;
    for (const Piece& piece : pieces) wanted += BytesOf(piece, other, num_rows);
    if (parts[static_cast<size_t>(other)].size() == wanted) continue;
    return absl::DataLossError(absl::StrFormat("attention rank %d: wanted %d bytes of %d rows, got %d", other,
                                               wanted, num_rows, parts[static_cast<size_t>(other)].size()));
  }
  int64_t width = 0;
  for (const Piece& piece : pieces) width += piece.width;
  pool_.ParallelFor(num_rows, CostOfElements(width), [&](int64_t r, int) {
    for (int other = 0; other < group_.num_ranks(); ++other) {
      const uint8_t* from = parts[static_cast<size_t>(other)].data();
      for (const Piece& piece : pieces) {
        const IndexRange& columns = piece.columns[static_cast<size_t>(other)];
        const size_t row_bytes = sizeof(float) * columns.count;
        if (row_bytes > 0) {
          std::memcpy(piece.all + r * piece.width + columns.first, from + r * row_bytes, row_bytes);
        }
        from += row_bytes * num_rows;
      }
    }
  });
  return absl::OkStatus();
}

}  // namespace sheaf
