#pragma once
// Random Linears for the tests, in the packed layout, with their values as plain floats beside
// them: an oracle that knows nothing of the layout.

#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "kernels/linear/linear.h"

namespace sheaf::kernels {

// Fresh each run; SHEAF_TEST_SEED repeats one. Print it with SCOPED_TRACE.
inline uint32_t TestSeed() {
  const char* fixed = std::getenv("SHEAF_TEST_SEED");
  return fixed != nullptr ? static_cast<uint32_t>(std::strtoul(fixed, nullptr, 10))
                          : std::random_device()();
}

// Of integer weights of either width.
struct IntegerOptions {
  int n = 16;
  int k = 128;
  int segment = 128;
  ScaleFormat scale_format = ScaleFormat::kF16;
  bool zeros = false;
  bool permutation = false;
  bool bias = false;
  int bits = 4;
};

using W4Options = IntegerOptions;

struct DenseOptions {
  int n = 16;
  int k = 128;
  FloatFormat format = FloatFormat::kBF16;
  bool bias = false;
  // Of kE4M3: scales of these blocks, the first of them begun before the matrix.
  int block_rows = 128;
  int block_columns = 128;
  int first_row = 0;
  int first_column = 0;
};

// Owns what the view `linear` points to; not movable.
class RandomLinear {
 public:
  RandomLinear(std::mt19937& random, const IntegerOptions& options);
  RandomLinear(std::mt19937& random, const DenseOptions& options);
  RandomLinear(const RandomLinear&) = delete;
  RandomLinear& operator=(const RandomLinear&) = delete;

  const Linear& linear() const { return linear_; }
  // W[output][input] in the order of the caller's activations, exact (8-bit floats: rounded to
  // float, as the kernels do).
  double weight(int output, int input) const {
    return weights_[size_t(output) * linear_.k() + input];
  }
  double bias(int output) const { return bias_.empty() ? 0 : bias_[output]; }

 private:
  template <int kBits>
  void MakeIntegers(std::mt19937& random, const IntegerOptions& options, PackedIntegers<kBits>& w);
  void MakeE4M3(std::mt19937& random, const DenseOptions& options);
  void MakeBias(std::mt19937& random, int n);

  Linear linear_;
  std::vector<double> weights_;
  std::vector<uint8_t> codes_;
  std::vector<uint8_t> scales_;
  std::vector<uint8_t> zeros_;
  std::vector<int32_t> permutation_;
  std::vector<uint8_t> dense_;
  std::vector<float> block_scales_;
  std::vector<float> bias_;
};

// Normal values, with a few large ones as activations have.
std::vector<float> RandomActivations(std::mt19937& random, size_t count);

// The bits, any NaN as one value: what targets must agree on.
uint32_t BitsOf(float x);

}  // namespace sheaf::kernels
