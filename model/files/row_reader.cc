#include "model/files/row_reader.h"

#include "base/check.h"
#include "base/status.h"

namespace sheaf {
namespace {

// The rows that one element along the axis holds. Where several numbers fit, the one element is all
// there is.
int64_t RowsAnElement(int64_t matrix_rows, int64_t extent) {
  int64_t rows = 1;
  while ((matrix_rows + rows - 1) / rows > extent) rows *= 2;
  SHEAF_CHECK((matrix_rows + rows - 1) / rows == extent, "the plan has checked the tensor's shape");
  return rows;
}

}  // namespace

absl::StatusOr<std::span<uint8_t>> ReadBuffer::Resize(size_t bytes) {
  if (bytes > capacity_) {
    memory_ = nullptr;
    SHEAF_ASSIGN_OR_RETURN(memory_, PackedArena::Reserve(bytes));
    data_ = static_cast<uint8_t*>(memory_->Allocate(bytes));
    capacity_ = bytes;
  }
  return std::span(data_, bytes);
}

absl::StatusOr<std::span<const uint8_t>> ReadRows(const Checkpoint& checkpoint,
                                                  const TensorInfo& tensor, const MatrixRows& rows,
                                                  ReadBuffer& buffer) {
  const size_t rank = tensor.shape.size();
  SHEAF_CHECK(rank >= 2 && rank <= 3, "the plan has checked the tensor's shape");
  const uint64_t matrix_bytes =
      tensor.bytes / static_cast<uint64_t>(rank == 3 ? tensor.shape[0] : 1);
  const int64_t extent = tensor.shape[rows.axis == RowAxis::kFirst ? rank - 2 : rank - 1];
  const int64_t lines = rows.axis == RowAxis::kFirst ? 1 : tensor.shape[rank - 2];
  const int64_t rows_an_element = RowsAnElement(rows.matrix_rows, extent);
  const auto first = static_cast<uint64_t>(rows.first_row / rows_an_element);
  const auto count =
      static_cast<uint64_t>((rows.num_rows + rows_an_element - 1) / rows_an_element);
  const uint64_t element_bytes = matrix_bytes / static_cast<uint64_t>(lines * extent);
  const uint64_t line_bytes = static_cast<uint64_t>(extent) * element_bytes;
  const uint64_t run_bytes = count * element_bytes;
  const uint64_t begin = static_cast<uint64_t>(rows.matrix) * matrix_bytes + first * element_bytes;
  SHEAF_ASSIGN_OR_RETURN(const std::span<uint8_t> out,
                         buffer.Resize(static_cast<uint64_t>(lines) * run_bytes));
  if (run_bytes == line_bytes) {
    SHEAF_RETURN_IF_ERROR(checkpoint.Read(tensor, begin, out));
    return out;
  }
  for (uint64_t line = 0; line < static_cast<uint64_t>(lines); ++line) {
    SHEAF_RETURN_IF_ERROR(checkpoint.Read(tensor, begin + line * line_bytes,
                                          out.subspan(line * run_bytes, run_bytes)));
  }
  return out;
}

}  // namespace sheaf
