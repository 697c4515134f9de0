#pragma once
// Rotary position embedding on the first `rotary_dim` dimensions of a head: pair j turns by the
// angle position * theta^(-2j / rotary_dim),
//   a' = a cos_j - b sin_j;   b' = b cos_j + a sin_j
// with (a, b) = (x[j], x[j + rotary_dim / 2]) for half-split (NeoX) pairs and (x[2j], x[2j + 1])
// for interleaved ones. The rest of the head passes through. models: GLM-4.6 half-split (rotary_dim
// = head_dim * partial_rotary_factor), GLM-5.1 interleaved, in its queries, keys and indexer alike.
//
// Contexts longer than those of training: kLinear divides every frequency by `factor`; kYarn leaves
// the pairs that turn often within the training context as they are, divides those that turn
// seldom, blends between, and makes cos and sin larger by `magnitude`.
//
// Numbers    a' = fma(-b, sin, a * cos), b' = fma(a, sin, b * cos), float32.
// RopeTable holds cos and sin for positions [0, max_positions): computed in double, stored float32.
// Source     YaRN: Peng et al. 2023, section 3.
// Shapes     cos/sin [max_positions][rotary_dim / 2].
// Threads    the table is constant after construction; ApplyRope is pure.

#include <cstddef>
#include <cstdint>
#include <vector>

namespace sheaf::kernels {

enum class RopeScaling : uint8_t { kNone, kLinear, kYarn };

struct RopeParameters {
  double theta = 10000.0;
  RopeScaling scaling = RopeScaling::kNone;
  double factor = 1.0;     // >= 1: how much longer the context is than that of training
  double magnitude = 1.0;  // of cos and sin
  // kYarn: pairs that turn beta_fast times or more within original_positions stay, those that turn
  // beta_slow times or less are divided. `truncate`: the bounds are whole pairs.
  int original_positions = 0;
  double beta_fast = 32.0;
  double beta_slow = 1.0;
  bool truncate = true;
};

// Radians a position of each pair, [rotary_dim / 2].
std::vector<double> RopeFrequencies(int rotary_dim, const RopeParameters& parameters);

// What YaRN multiplies scores with for a longer context: 1 + 0.1 mscale ln(factor).
double YarnMagnitude(double factor, double mscale);

class RopeTable {
 public:
  RopeTable(int max_positions, int rotary_dim, const RopeParameters& parameters);
  RopeTable(int max_positions, int rotary_dim, double theta)
      : RopeTable(max_positions, rotary_dim, RopeParameters{.theta = theta}) {}
  int rotary_dim() const { return rotary_dim_; }
  int max_positions() const { return max_positions_; }
  const float* cos(int position) const {
    return cos_.data() + size_t(position) * (rotary_dim_ / 2);
  }
  const float* sin(int position) const {
    return sin_.data() + size_t(position) * (rotary_dim_ / 2);
  }

 private:
  int max_positions_;
  int rotary_dim_;
  std::vector<float> cos_;
  std::vector<float> sin_;
};

enum class RopePairs : uint8_t { kHalfSplit, kInterleaved };

// x of one token, in place: `num_heads` heads whose first elements are `head_dim` floats apart.
void ApplyRope(float* x, int num_heads, int head_dim, const RopeTable& table, int position,
               RopePairs pairs = RopePairs::kHalfSplit);

namespace ref {
void ApplyRope(float* x, int num_heads, int head_dim, const RopeTable& table, int position,
               RopePairs pairs = RopePairs::kHalfSplit);
}  // namespace ref

}  // namespace sheaf::kernels
