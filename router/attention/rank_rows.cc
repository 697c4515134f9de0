#include "router/attention/rank_rows.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_format.h"
#include "base/status.h"

namespace sheaf {
namespace {

using kernels::kActivationGroup;
using kernels::kSumsPerGroup;
using kernels::NumGroups;

// Of a row of some columns.
size_t RowBytes(const RankRows::Piece& piece, size_t rank) {
  return sizeof(float) * piece.columns[rank].count;
}
size_t PlaneBytes(const RankRows::GroupsPiece& piece, size_t rank) {
  return size_t(kernels::GroupBytes(piece.own->bits())) * NumGroups(piece.columns[rank].count);
}
size_t ScaleBytes(const RankRows::GroupsPiece& piece, size_t rank) {
  return sizeof(float) * kernels::ScalesPerGroup(piece.own->bits()) *
         NumGroups(piece.columns[rank].count);
}

void Append(const void* data, size_t bytes, std::vector<uint8_t>& out) {
  const auto* const from = static_cast<const uint8_t*>(data);
  out.insert(out.end(), from, from + bytes);
}

// Row r of one rank's part of a piece. `from`: that part.
void TakeRow(const RankRows::Piece& piece, size_t rank, int64_t r, const uint8_t* from) {
  const size_t bytes = RowBytes(piece, rank);
  if (bytes == 0) return;
  std::memcpy(piece.all + r * piece.width + piece.columns[rank].first, from + r * bytes, bytes);
}

void TakeRow(const RankRows::GroupsPiece& piece, size_t rank, int64_t r, int64_t num_rows,
             const uint8_t* from) {
  const IndexRange& columns = piece.columns[rank];
  if (columns.count == 0) return;
  const size_t plane_bytes = PlaneBytes(piece, rank);
  const size_t scale_bytes = ScaleBytes(piece, rank);
  const size_t group =
      size_t(r) * NumGroups(piece.width) + size_t(columns.first / kActivationGroup);
  const kernels::ActivationBits bits = piece.own->bits();
  int8_t* const planes = piece.all->planes() + group * kernels::GroupBytes(bits);
  std::memcpy(planes, from + r * plane_bytes, plane_bytes);
  std::memcpy(piece.all->scales() + group * kernels::ScalesPerGroup(bits),
              from + num_rows * plane_bytes + r * scale_bytes, scale_bytes);
  kernels::SumRow(bits, planes, columns.count, piece.all->sums() + group * kSumsPerGroup);
}

}  // namespace

bool RankRows::AreWholeGroups(std::span<const IndexRange> columns) {
  return std::all_of(columns.begin(), columns.end(), [](const IndexRange& range) {
    return range.count == 0 || range.first % kActivationGroup == 0;
  });
}

absl::Status RankRows::PutTogether(int num_rows, std::span<const Piece> pieces,
                                   std::span<const GroupsPiece> groups) {
  const auto rank = static_cast<size_t>(group_.rank());
  const auto rows = static_cast<size_t>(num_rows);
  std::span<const uint8_t> own;
  if (pieces.size() == 1 && groups.empty()) {
    own = {reinterpret_cast<const uint8_t*>(pieces[0].own), RowBytes(pieces[0], rank) * rows};
  } else {
    own_.clear();
    for (const Piece& piece : pieces) Append(piece.own, RowBytes(piece, rank) * rows, own_);
    for (const GroupsPiece& piece : groups) {
      Append(piece.own->planes(), PlaneBytes(piece, rank) * rows, own_);
      Append(piece.own->scales(), ScaleBytes(piece, rank) * rows, own_);
    }
    own = own_;
  }
  SHEAF_ASSIGN_OR_RETURN(const RankGroup::Parts parts, group_.Gather(own));
  int64_t width = 0;
  for (const Piece& piece : pieces) width += piece.width;
  for (const GroupsPiece& piece : groups) width += piece.width;
  for (size_t other = 0; other < parts.size(); ++other) {
    size_t wanted = 0;
    for (const Piece& piece : pieces) wanted += RowBytes(piece, other) * rows;
    for (const GroupsPiece& piece : groups)
      wanted += (PlaneBytes(piece, other) + ScaleBytes(piece, other)) * rows;
    if (parts[other].size() == wanted) continue;
    return absl::DataLossError(
        absl::StrFormat("attention rank %d: wanted %d bytes of %d rows, got %d", other, wanted,
                        num_rows, parts[other].size()));
  }
  pool_.ParallelFor(num_rows, CostOfElements(width), [&](int64_t r, int) {
    for (size_t other = 0; other < parts.size(); ++other) {
      const uint8_t* from = parts[other].data();
      for (const Piece& piece : pieces) {
        TakeRow(piece, other, r, from);
        from += RowBytes(piece, other) * rows;
      }
      for (const GroupsPiece& piece : groups) {
        TakeRow(piece, other, r, num_rows, from);
        from += (PlaneBytes(piece, other) + ScaleBytes(piece, other)) * rows;
      }
    }
  });
  return absl::OkStatus();
}

}  // namespace sheaf
