#pragma once
// Where the tensors of an expert lie in one block of a device's memory, and in what pieces they are
// brought there: copied as they are on the host, codes then permuted in place
// (kernels/experts/expert_ffn_cuda.h, RetileCodes).
//
// Only 4-bit experts; gate and up with the same permutation share it. Tensors begin at multiples of
// 256 bytes.
//
// Ownership  keeps no pointer to the weights that it was planned from; pieces point into those they
//            are asked for.
// Threads    pure functions.
// Errors     UNIMPLEMENTED: a storage that has no CUDA kernels, naming it.

#include <cstddef>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/experts/expert_ffn.h"
#include "kernels/experts/expert_plan_cuda.h"

namespace sheaf::kernels::cuda {

struct ExpertPiece {
  const void* host = nullptr;
  size_t bytes = 0;
  size_t at = 0;       // in the expert's memory
  bool codes = false;  // RetileCodes of these bytes follows the copy
};

class ExpertMemory {
 public:
  static absl::StatusOr<ExpertMemory> Plan(const ExpertWeights& weights);

  size_t bytes() const { return bytes_; }  // a multiple of 256
  int hidden() const { return matrices_[0].matrix.k; }
  int intermediate() const { return matrices_[0].matrix.n; }
  bool permuted() const;

  // The expert whose memory begins at `memory`, 256-byte aligned.
  DeviceExpert At(const std::byte* memory) const;

  // All of the weights, in pieces of at most `most_bytes` (at least kTileBytes). `weights` has the
  // sizes and formats planned for.
  std::vector<ExpertPiece> Pieces(const ExpertWeights& weights, size_t most_bytes) const;

 private:
  static constexpr size_t kAbsent = ~size_t{0};
  struct Matrix {
    DeviceMatrix matrix;  // without pointers
    size_t codes = 0;
    size_t scales = 0;
    size_t zeros = kAbsent;
    size_t bias = kAbsent;
    size_t permutation = kAbsent;
  };

  Matrix matrices_[3];  // gate, up, down
  size_t bytes_ = 0;
};

}  // namespace sheaf::kernels::cuda
