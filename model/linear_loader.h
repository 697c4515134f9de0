#pragma once
// Loads one Linear of a checkpoint, whatever its storage, into what the kernels read.
//
// The storage is decided from the tensors that exist under the prefix (.qweight / .weight_packed /
// .weight), then from the hints: models differ tensor by tensor. Integer formats are read a piece
// at a time into scratch memory and repacked into kernels/linear/packed_w4.h or packed_w8.h; float
// formats are read to where they stay, unless the plan wants them as 8-bit integers
// (LinearPlan::to_int8).
//
// Ownership  LoadedLinear owns its memory (a part of the arena); nothing of the Checkpoint is
//            needed afterwards.
// Threads    pure but for reading files; call from several threads, with a scratch each.
// Errors     name the tensor, its file, wanted and got: missing parts, wrong shape or dtype, bits
//            other than 4 and 8, an unknown format, NaN or Inf in scales or weights; those of
//            Checkpoint::Read.
// Memory     while loading, beside the result: kPieceBytes of codes (model/files/row_reader.h) with
//            their scales and zero points, at most about 11 MiB.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/linear/linear.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/files/row_reader.h"
#include "model/linear_plan.h"
#include "model/packed_arena.h"

namespace sheaf {

// A part of a Linear: some output rows, some input columns. 0 rows or columns = all from the first
// on. Columns of an integer matrix are cut at activation groups (multiples of 128), and not where a
// g_idx permutes them.
struct LinearSlice {
  int first_row = 0;
  int num_rows = 0;
  int first_column = 0;
  int num_columns = 0;
};

class LoadedLinear {
 public:
  LoadedLinear();
  LoadedLinear(LoadedLinear&&) noexcept;
  LoadedLinear& operator=(LoadedLinear&&) noexcept;
  ~LoadedLinear();

  const kernels::Linear& view() const { return view_; }
  size_t owned_bytes() const;

 private:
  friend class LinearBuilder;
  struct Memory;
  std::unique_ptr<Memory> memory_;
  kernels::Linear view_;
};

// `prefix` is the module name, e.g. "model.layers.3.mlp.experts.7.gate_proj". Wants shape [n][k].
absl::StatusOr<LoadedLinear> LoadLinear(const Checkpoint& checkpoint,
                                        const QuantizationHints& hints, const std::string& prefix,
                                        int n, int k);

// The same from a plan, into a shared arena.
absl::StatusOr<LoadedLinear> LoadPlannedLinear(const Checkpoint& checkpoint, const LinearPlan& plan,
                                               const LinearSlice& slice,
                                               const std::shared_ptr<PackedArena>& arena,
                                               LoadScratch& scratch);

// What LoadPlannedLinear allocates of the arena, at most.
size_t MaxArenaBytes(const LinearPlan& plan, const LinearSlice& slice);

// A vector of floats [count] (norms, correction biases) of any plain dtype. Errors: also NaN or
// Inf.
absl::StatusOr<std::vector<float>> LoadFloats(const Checkpoint& checkpoint, const std::string& name,
                                              int count);
// The one element of a tensor of any plain dtype, which was checked. Errors: NaN or Inf.
absl::StatusOr<float> LoadFloat(const Checkpoint& checkpoint, const TensorInfo& tensor);

}  // namespace sheaf
