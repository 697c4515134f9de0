#pragma once
// AbsorbedKv: kv_b_proj of latent attention, taken apart for the absorbed form.
//
// kv_b_proj expands a latent c into each head's key and value: per head, nope_dim rows W_UK, then
// v_dim rows W_UV. Instead of expanding every cached latent, a query is brought into the latent's
// space once, q_latent = W_UK^T q_nope, and so is the weighted sum out of it, v = W_UV o_latent.
//
// W_UV of integer weights stays as it is: some rows of the matrix. W_UK is used transposed, across
// its scale groups: for the latents j of a group g, W_UK[i][j] = s[i][g] (code[i][j] - z), z = 8 or
// 128, so
//   q_latent[j] = sum_i (q[i] s[i][g]) (code[i][j] - z)
// is a product of integer weights without scales and an input that carries them: one part a group.
// Files for which this does not hold (zero points, act-order) and float files make one float part
// of each head, in the smallest format that has every value. FP8 stays FP8: its codes transposed,
// and with them the blocks of its scales.
//
// Shapes     kv_b [heads * (nope_dim + v_dim)][rank]; the parts of key_up(h) have
//            [columns][nope_dim] and together all `rank` columns; value_up(h) [v_dim][rank].
// Ownership  owns a copy. Threads: constant after Build.
// Memory     about that of the file for integer weights, 1, 2 or 4 bytes an element for floats.
// Source     DeepSeek-V2, section 2.1 (absorption); docs/decisions/0009.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/linear/linear.h"
#include "model/linear_plan.h"
#include "model/packed_arena.h"

namespace sheaf {

class AbsorbedKv {
 public:
  struct KeyPart {
    kernels::Linear linear;               // [columns][nope_dim]
    int first_column = 0;                 // of the latent
    const float* input_scales = nullptr;  // [nope_dim]; null: inputs as they are
  };

  AbsorbedKv() = default;

  // Errors: kResourceExhausted.
  static absl::StatusOr<AbsorbedKv> Build(const kernels::Linear& kv_b, int num_heads, int nope_dim,
                                          int v_dim);

  // Every head has as many parts.
  std::span<const KeyPart> key_up(int head) const {
    return std::span(key_parts_).subspan(static_cast<size_t>(head) * parts_a_head_, parts_a_head_);
  }
  const kernels::Linear& value_up(int head) const { return value_up_[static_cast<size_t>(head)]; }
  size_t memory_bytes() const { return memory_bytes_; }

  // What Build will need for a kv_b_proj that is stored like this, as far as headers tell.
  static size_t MemoryBytes(const LinearPlan& kv_b, int nope_dim, int v_dim);

 private:
  friend class AbsorbedKvBuilder;

  std::shared_ptr<PackedArena> memory_;
  size_t memory_bytes_ = 0;
  size_t parts_a_head_ = 1;
  std::vector<KeyPart> key_parts_;  // [heads][parts]
  std::vector<kernels::Linear> value_up_;
};

}  // namespace sheaf
