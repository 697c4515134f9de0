#include "kernels/attention/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace sheaf::kernels {
namespace {

// The pair (as a real number) that turns `turns` times within the training context.
double PairOfTurns(double turns, int rotary_dim, const RopeParameters& parameters) {
  const double wavelength = parameters.original_positions / turns;
  return rotary_dim * std::log(wavelength / (2 * std::numbers::pi)) /
         (2 * std::log(parameters.theta));
}

void ApplyYarn(int rotary_dim, const RopeParameters& parameters, std::vector<double>& frequency) {
  double first = PairOfTurns(parameters.beta_fast, rotary_dim, parameters);
  double last = PairOfTurns(parameters.beta_slow, rotary_dim, parameters);
  if (parameters.truncate) {
    first = std::floor(first);
    last = std::ceil(last);
  }
  first = std::max(first, 0.0);
  last = std::min(last, rotary_dim - 1.0);
  if (first == last) last += 0.001;  // a step instead of a ramp
  for (size_t j = 0; j < frequency.size(); ++j) {
    const double divided = std::clamp((static_cast<double>(j) - first) / (last - first), 0.0, 1.0);
    frequency[j] = frequency[j] / parameters.factor * divided + frequency[j] * (1.0 - divided);
  }
}

}  // namespace

std::vector<double> RopeFrequencies(int rotary_dim, const RopeParameters& parameters) {
  std::vector<double> frequency(static_cast<size_t>(rotary_dim / 2));
  for (size_t j = 0; j < frequency.size(); ++j) {
    frequency[j] = std::pow(parameters.theta, -2.0 * static_cast<double>(j) / rotary_dim);
  }
  switch (parameters.scaling) {
    case RopeScaling::kNone:
      break;
    case RopeScaling::kLinear:
      for (double& radians : frequency) radians /= parameters.factor;
      break;
    case RopeScaling::kYarn:
      ApplyYarn(rotary_dim, parameters, frequency);
      break;
  }
  return frequency;
}

double YarnMagnitude(double factor, double mscale) {
  return factor <= 1.0 ? 1.0 : 1.0 + 0.1 * mscale * std::log(factor);
}

RopeTable::RopeTable(int max_positions, int rotary_dim, const RopeParameters& parameters)
    : max_positions_(max_positions), rotary_dim_(rotary_dim) {
  const int half = rotary_dim / 2;
  cos_.resize(static_cast<size_t>(max_positions) * half);
  sin_.resize(cos_.size());
  const std::vector<double> frequency = RopeFrequencies(rotary_dim, parameters);
  size_t at = 0;
  for (int position = 0; position < max_positions; ++position) {
    for (const double radians : frequency) {
      const double angle = position * radians;
      cos_[at] = static_cast<float>(std::cos(angle) * parameters.magnitude);
      sin_[at] = static_cast<float>(std::sin(angle) * parameters.magnitude);
      ++at;
    }
  }
}

}  // namespace sheaf::kernels
