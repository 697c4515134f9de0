#include "kernels/rope.h"

#include <cmath>

namespace sheaf::kernels {

RopeTable::RopeTable(int max_positions, int rotary_dim, double theta)
    : max_positions_(max_positions), rotary_dim_(rotary_dim) {
  const int half = rotary_dim / 2;
  cos_.resize(static_cast<size_t>(max_positions) * half);
  sin_.resize(cos_.size());
  std::vector<double> frequency(half);
  for (int j = 0; j < half; ++j) frequency[j] = std::pow(theta, -2.0 * j / rotary_dim);
  size_t at = 0;
  for (int position = 0; position < max_positions; ++position) {
    for (int j = 0; j < half; ++j, ++at) {
      const double angle = position * frequency[j];
      cos_[at] = static_cast<float>(std::cos(angle));
      sin_[at] = static_cast<float>(std::sin(angle));
    }
  }
}

}  // namespace sheaf::kernels
