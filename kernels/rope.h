#pragma once
// Rotary position embedding on the first `rotary_dim` dimensions of a head, half-split (NeoX) pairs:
//   o[j] = x[j] cos_j - x[j + d/2] sin_j;   o[j + d/2] = x[j + d/2] cos_j + x[j] sin_j,   d = rotary_dim
// the rest of the head passes through. models: GLM-4.6 (rotary_dim = head_dim * partial_rotary_factor).
//
// RopeTable holds cos and sin for positions [0, max_positions): computed in double, stored float32.
// Shapes     cos/sin [max_positions][rotary_dim / 2].
// Threads    the table is constant after construction; ApplyRope is pure.

#include <cstddef>
#include <vector>

namespace sheaf::kernels {

class RopeTable {
 public:
  RopeTable(int max_positions, int rotary_dim, double theta);
  int rotary_dim() const { return rotary_dim_; }
  int max_positions() const { return max_positions_; }
  const float* cos(int position) const { return cos_.data() + size_t(position) * (rotary_dim_ / 2); }
  const float* sin(int position) const { return sin_.data() + size_t(position) * (rotary_dim_ / 2); }

 private:
  int max_positions_;
  int rotary_dim_;
  std::vector<float> cos_;
  std::vector<float> sin_;
};

// x [num_heads][head_dim] of one token, in place.
void ApplyRope(float* x, int num_heads, int head_dim, const RopeTable& table, int position);

namespace ref {
void ApplyRope(float* x, int num_heads, int head_dim, const RopeTable& table, int position);
}  // namespace ref

}  // namespace sheaf::kernels
