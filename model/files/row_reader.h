#pragma once
// Reads some output rows of a matrix into memory that loading threads use again and again.
//
// A 4-bit matrix is repacked piece by piece: the bytes of some rows are brought together as the
// tensor of a smaller matrix would hold them, so that unpacking needs to know nothing of pieces. In
// a tensor [rows][...] they lie together; in one [...][rows] each line brings a run.
//
// Ownership  LoadScratch owns its memory until it is destroyed. Threads: one at a time.
// Errors     those of Checkpoint::Read; kResourceExhausted.
// Memory     grows to the largest piece read: kPieceBytes of codes, and their scales and zero
//            points.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "model/checkpoint.h"
#include "model/packed_arena.h"

namespace sheaf {

// Large enough for a whole Linear of most experts, which is then read in one go.
inline constexpr size_t kPieceBytes = size_t{8} << 20;

class ReadBuffer {
 public:
  // Memory of that size; its content is undefined and that of the call before is gone.
  absl::StatusOr<std::span<uint8_t>> Resize(size_t bytes);

 private:
  std::shared_ptr<PackedArena> memory_;
  uint8_t* data_ = nullptr;
  size_t capacity_ = 0;
};

struct LoadScratch {
  ReadBuffer codes, scales, zeros;
  size_t piece_bytes = kPieceBytes;
};

enum class RowAxis : uint8_t { kFirst, kLast };

struct MatrixRows {
  RowAxis axis = RowAxis::kFirst;  // of the matrix's two
  int matrix_rows = 0;             // all of its output rows
  int first_row = 0;
  int num_rows = 0;
  int matrix = 0;  // which one, where a third dimension in front holds several
};

// One element along the axis may hold several rows (a word of 8 nibbles); first_row is then a
// multiple of that number, and so is num_rows unless it ends the matrix. The bytes live in the
// buffer.
absl::StatusOr<std::span<const uint8_t>> ReadRows(const Checkpoint& checkpoint,
                                                  const TensorInfo& tensor, const MatrixRows& rows,
                                                  ReadBuffer& buffer);

}  // namespace sheaf
