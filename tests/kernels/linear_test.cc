#include "kernels/linear/linear.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <tuple>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/simd/cpu_target.h"
#include "tests/kernels/random_weights.h"

namespace sheaf::kernels {
namespace {

constexpr float kUntouched = 12345;
constexpr ActivationBits kBothBits[] = {ActivationBits::k16, ActivationBits::k8};

Activations FloatsOf(const std::vector<float>& floats, int num_rows, int k, ActivationBits bits) {
  Activations x{.num_rows = num_rows, .k = k, .floats = floats.data(), .quantized = {}};
  x.quantized.bits = bits;
  return x;
}

std::vector<float> Multiply(ThreadPool& pool, const Linear& linear, const Activations& x,
                            ptrdiff_t y_stride) {
  std::vector<float> y(x.num_rows * y_stride + 16, kUntouched);
  const LinearCall call{&linear, &x, y.data(), y_stride};
  RunLinears(pool, {&call, 1});
  return y;
}

void ExpectSameBits(const std::vector<float>& a, const std::vector<float>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) ASSERT_EQ(BitsOf(a[i]), BitsOf(b[i])) << "element " << i;
}

class LinearTest : public testing::TestWithParam<std::string> {
 protected:
  LinearTest() : seed_(TestSeed()), random_(seed_) {}
  void SetUp() override { ASSERT_TRUE(ForceCpuTarget(GetParam()).ok()); }
  void TearDown() override {
    ASSERT_TRUE(ForceCpuTarget("auto").ok());
    if (HasFailure()) ADD_FAILURE() << "repeat with SHEAF_TEST_SEED=" << seed_;
  }

  // Against the reference's bits and, more loosely, against the weights' plain values.
  void Check(const RandomLinear& weights, int num_rows) {
    for (const ActivationBits bits : kBothBits) {
      SCOPED_TRACE(testing::Message() << "activation bits " << int(bits));
      Check(weights, num_rows, bits);
      if (HasFatalFailure()) return;
    }
  }

  void Check(const RandomLinear& weights, int num_rows, ActivationBits bits) {
    const int n = weights.linear().n();
    const int k = weights.linear().k();
    const std::vector<float> floats = RandomActivations(random_, size_t(num_rows) * k);
    const Activations x = FloatsOf(floats, num_rows, k, bits);
    const bool rounds_to_bytes = bits == ActivationBits::k8 && weights.linear().is_integer();
    const ptrdiff_t y_stride = n + 3;
    const std::vector<float> y = Multiply(pool_, weights.linear(), x, y_stride);
    std::vector<float> expected(y.size(), kUntouched);
    ref::RunLinear(weights.linear(), x, expected.data(), y_stride);
    ExpectSameBits(y, expected);
    for (int row = 0; row < num_rows; ++row) {
      for (int output = 0; output < n; ++output) {
        double sum = 0;
        double magnitude = 0;
        double weight_sum = 0;
        float largest = 0;
        for (int i = 0; i < k; ++i) {
          const double product = weights.weight(output, i) * floats[size_t(row) * k + i];
          sum += product;
          magnitude += std::abs(product);
          weight_sum += std::abs(weights.weight(output, i));
          largest = std::max(largest, std::abs(floats[size_t(row) * k + i]));
        }
        // 16-bit activations: far below what one wrong nibble would do. 8-bit ones: half a unit of
        // each, twice where they are put in another order.
        const double rounded = rounds_to_bytes ? weight_sum * largest / 127 : 0;
        ASSERT_NEAR(y[row * y_stride + output], sum + weights.bias(output),
                    1e-3 * magnitude + rounded + 1e-6 + 1e-6 * std::abs(weights.bias(output)))
            << "row " << row << " output " << output;
      }
    }
  }

  uint32_t seed_;
  std::mt19937 random_;
  ThreadPool pool_{2};
};

INSTANTIATE_TEST_SUITE_P(Targets, LinearTest, testing::ValuesIn(AvailableCpuTargets()),
                         [](const auto& param) { return param.param; });

TEST_P(LinearTest, FourBitProductByHand) {
  // One output, 8 inputs of a 32-group: nibbles 0..7 minus 8, scale 0.5; x = 32512, 1, 0, -1, 2,
  // ... so that q = x.
  std::vector<uint8_t> nibbles(64 * 16, 0);
  const uint8_t word[4] = {0x10, 0x32, 0x54, 0x76};
  std::memcpy(nibbles.data(), word, 4);
  std::vector<float> scales(4 * 16, 0.0f);
  scales[0] = 0.5f;
  Linear linear;
  linear.storage = Linear::Storage::kW4;
  linear.w4 = {.n = 1,
               .k = 8,
               .segment = 32,
               .scale_format = ScaleFormat::kF32,
               .codes = nibbles.data(),
               .scales = scales.data()};
  const float bias = 10;
  linear.bias = &bias;
  const std::vector<float> x = {32512, 1, 0, -1, 2, -2, 3, 100};
  const Activations rows{.num_rows = 1, .k = 8, .floats = x.data(), .quantized = {}};
  const std::vector<float> y = Multiply(pool_, linear, rows, 1);
  // 32512 * -8 + 1 * -7 + -1 * -5 + 2 * -4 + -2 * -3 + 3 * -2 + 100 * -1 = -260206, times 0.5,
  // plus 10.
  EXPECT_EQ(y[0], -130093.0f);
  EXPECT_EQ(y[1], kUntouched);
}

TEST_P(LinearTest, ZeroPointsAndNegativeScalesByHand) {
  std::vector<uint8_t> nibbles(64 * 16, 0);
  nibbles[4] = 0xf3;  // output 1: inputs 0 and 1
  std::vector<float> scales(4 * 16, 0.0f);
  scales[1] = -2.0f;
  std::vector<uint8_t> zeros(4 * 16, 0);
  zeros[1] = 5;
  Linear linear;
  linear.storage = Linear::Storage::kW4;
  linear.w4 = {.n = 2,
               .k = 2,
               .segment = 32,
               .scale_format = ScaleFormat::kF32,
               .codes = nibbles.data(),
               .scales = scales.data(),
               .zeros = zeros.data()};
  const std::vector<float> x = {32512, 2};
  const Activations rows{.num_rows = 1, .k = 2, .floats = x.data(), .quantized = {}};
  const std::vector<float> y = Multiply(pool_, linear, rows, 2);
  EXPECT_EQ(y[0], 0.0f);
  EXPECT_EQ(y[1], -2.0f * (32512 * (3 - 5) + 2 * (15 - 5)));
}

TEST_P(LinearTest, EightBitProductByHand) {
  // One output, 8 inputs of a 32-group: codes 0 1 127 128 129 254 255 200 less 128, scale 0.5; the
  // largest activation is 32512, so that q = x.
  std::vector<uint8_t> codes(128 * 16, 0);
  const uint8_t even[4] = {0, 127, 129, 255};  // inputs 0 2 4 6
  const uint8_t odd[4] = {1, 128, 254, 200};   // inputs 1 3 5 7
  std::memcpy(codes.data(), even, 4);
  std::memcpy(codes.data() + 64, odd, 4);
  std::vector<float> scales(4 * 16, 0.0f);
  scales[0] = 0.5f;
  Linear linear;
  linear.storage = Linear::Storage::kW8;
  linear.w8 = {.n = 1,
               .k = 8,
               .segment = 32,
               .scale_format = ScaleFormat::kF32,
               .codes = codes.data(),
               .scales = scales.data()};
  const float bias = 10;
  linear.bias = &bias;
  const std::vector<float> x = {32512, 1, 3, 1000, 2, -2, 3, 100};
  const Activations rows{.num_rows = 1, .k = 8, .floats = x.data(), .quantized = {}};
  const std::vector<float> y = Multiply(pool_, linear, rows, 1);
  // 32512 * -128 + 1 * -127 + 3 * -1 + 1000 * 0 + 2 * 1 + -2 * 126 + 3 * 127 + 100 * 72 = -4154335,
  // times 0.5, plus 10.
  EXPECT_EQ(y[0], -2077157.5f);
  EXPECT_EQ(y[1], kUntouched);
}

TEST_P(LinearTest, EightBitZeroPointsAndNegativeScalesByHand) {
  std::vector<uint8_t> codes(128 * 16, 0);
  codes[4] = 3;         // output 1: input 0
  codes[64 + 4] = 255;  // and input 1
  std::vector<float> scales(4 * 16, 0.0f);
  scales[1] = -2.0f;
  std::vector<uint8_t> zeros(4 * 16, 0);
  zeros[1] = 250;
  Linear linear;
  linear.storage = Linear::Storage::kW8;
  linear.w8 = {.n = 2,
               .k = 2,
               .segment = 32,
               .scale_format = ScaleFormat::kF32,
               .codes = codes.data(),
               .scales = scales.data(),
               .zeros = zeros.data()};
  const std::vector<float> x = {32512, 2};
  const Activations rows{.num_rows = 1, .k = 2, .floats = x.data(), .quantized = {}};
  const std::vector<float> y = Multiply(pool_, linear, rows, 2);
  EXPECT_EQ(y[0], 0.0f);
  EXPECT_EQ(y[1], -2.0f * (32512 * (3 - 250) + 2 * (255 - 250)));
}

// Two parts of 32 inputs with a scale each, in one segment: nibbles 0..7 less 8 in both, q = x in
// the first, q = x / 2 in the second.
TEST_P(LinearTest, ByteProductByHand) {
  std::vector<uint8_t> nibbles(64 * 16, 0);
  const uint8_t word[4] = {0x10, 0x32, 0x54, 0x76};
  std::memcpy(nibbles.data(), word, 4);           // inputs 0..7
  std::memcpy(nibbles.data() + 64 * 4, word, 4);  // inputs 32..39
  std::vector<float> scales(2 * 16, 0.0f);
  scales[0] = 0.5f;
  Linear linear;
  linear.storage = Linear::Storage::kW4;
  linear.w4 = {.n = 1,
               .k = 40,
               .segment = 64,
               .scale_format = ScaleFormat::kF32,
               .codes = nibbles.data(),
               .scales = scales.data()};
  const float bias = 10;
  linear.bias = &bias;
  std::vector<float> x(40, 0.0f);
  const float first[8] = {127, 1, 0, -1, 2, -2, 3, 100};
  for (int i = 0; i < 8; ++i) {
    x[i] = first[i];
    x[32 + i] = 2 * first[7 - i];
  }
  const std::vector<float> y = Multiply(pool_, linear, FloatsOf(x, 1, 40, ActivationBits::k8), 1);
  // 127 * -8 + 1 * -7 + -1 * -5 + 2 * -4 + -2 * -3 + 3 * -2 + 100 * -1 = -1126; and of the second
  // 100 * -8 + 3 * -7 + -2 * -6 + 2 * -5 + -1 * -4 + 1 * -2 + 127 * -1 = -944, times 2.
  EXPECT_EQ(y[0], 0.5f * (-1126 - 2 * 944) + 10);
  EXPECT_EQ(y[1], kUntouched);
}

// The largest sums of 32 inputs, of both signs: what 16-bit sums of pairs may not hold.
TEST_P(LinearTest, ByteSumsDoNotOverflow) {
  for (const int bits : {4, 8}) {
    const int most = (1 << bits) - 1;
    for (const int zero : {0, most}) {
      // Nibbles of 15 and bytes of 255, or of 0, everywhere.
      const std::vector<uint8_t> codes(size_t{16} * 128 * bits / 8,
                                       static_cast<uint8_t>(zero == 0 ? 255 : 0));
      const std::vector<float> scales(4 * 16, 1.0f);
      const std::vector<uint8_t> zeros(4 * 16, static_cast<uint8_t>(zero));
      for (const int segment : {32, 128}) {
        Linear linear;
        if (bits == 4) {
          linear.storage = Linear::Storage::kW4;
          linear.w4 = {.n = 16,
                       .k = 128,
                       .segment = segment,
                       .scale_format = ScaleFormat::kF32,
                       .codes = codes.data(),
                       .scales = scales.data(),
                       .zeros = zeros.data()};
        } else {
          linear.storage = Linear::Storage::kW8;
          linear.w8 = {.n = 16,
                       .k = 128,
                       .segment = segment,
                       .scale_format = ScaleFormat::kF32,
                       .codes = codes.data(),
                       .scales = scales.data(),
                       .zeros = zeros.data()};
        }
        for (const float sign : {1.0f, -1.0f}) {
          for (const int num_rows : {1, 2, 5, 13}) {
            const std::vector<float> x(size_t(num_rows) * 128, sign * 127);
            const std::vector<float> y =
                Multiply(pool_, linear, FloatsOf(x, num_rows, 128, ActivationBits::k8), 16);
            const float wanted = sign * (zero == 0 ? 128.0f : -128.0f) * float(most) * 127.0f;
            for (int i = 0; i < num_rows * 16; ++i) ASSERT_EQ(y[i], wanted) << i;
          }
        }
      }
    }
  }
}

// How far 8 bits are from 16, so that a change of either is seen: of normal activations about 0.6 %
// and 0.002 %.
TEST_P(LinearTest, ErrorOfEightBitActivations) {
  const int n = 64, k = 2048, num_rows = 4;
  const RandomLinear weights(random_, W4Options{.n = n, .k = k});
  std::normal_distribution<float> normal;
  std::vector<float> floats(size_t{num_rows} * k);
  for (float& value : floats) value = normal(random_);
  for (const auto& [bits, least, most] :
       {std::tuple{ActivationBits::k8, 2e-3, 1.2e-2}, std::tuple{ActivationBits::k16, 0.0, 6e-5}}) {
    const std::vector<float> y =
        Multiply(pool_, weights.linear(), FloatsOf(floats, num_rows, k, bits), n);
    double error = 0, square = 0;
    for (int row = 0; row < num_rows; ++row) {
      for (int output = 0; output < n; ++output) {
        double sum = 0;
        for (int i = 0; i < k; ++i) sum += weights.weight(output, i) * floats[size_t(row) * k + i];
        error += (y[row * n + output] - sum) * (y[row * n + output] - sum);
        square += sum * sum;
      }
    }
    EXPECT_GT(std::sqrt(error / square), least) << int(bits);
    EXPECT_LT(std::sqrt(error / square), most) << int(bits);
  }
}

// The largest sums of a segment, of both signs: 128 inputs of 32512 times 255, and times -255.
TEST_P(LinearTest, EightBitSumsDoNotOverflow) {
  for (const float sign : {1.0f, -1.0f}) {
    for (const int zero : {0, 255}) {
      PackedW8 w = {.n = 16, .k = 128, .segment = 128, .scale_format = ScaleFormat::kF32};
      const std::vector<uint8_t> codes(w.code_bytes(), static_cast<uint8_t>(255 - zero));
      const std::vector<float> scales(16, 1.0f);
      const std::vector<uint8_t> zeros(16, static_cast<uint8_t>(zero));
      w.codes = codes.data();
      w.scales = scales.data();
      w.zeros = zeros.data();
      Linear linear;
      linear.storage = Linear::Storage::kW8;
      linear.w8 = w;
      for (const int num_rows : {1, 5, 13}) {
        const std::vector<float> x(size_t(num_rows) * 128, sign * 32512);
        const Activations rows{.num_rows = num_rows, .k = 128, .floats = x.data(), .quantized = {}};
        const std::vector<float> y = Multiply(pool_, linear, rows, 16);
        const float wanted = sign * (zero == 0 ? 1.0f : -1.0f) * 128.0f * 255.0f * 32512.0f;
        for (int i = 0; i < num_rows * 16; ++i) ASSERT_EQ(y[i], wanted) << i;
      }
    }
  }
}

TEST_P(LinearTest, IntegerShapesAtTheEdgesOfTiles) {
  for (int n : {1, 15, 16, 17, 100, 130}) {
    for (int k : {32, 64, 100, 128, 129, 384, 385}) {
      const int segments[] = {32, 64, 128};
      IntegerOptions options{.n = n, .k = k, .segment = segments[random_() % 3]};
      options.bits = n % 2 == k % 2 ? 4 : 8;
      options.scale_format = static_cast<ScaleFormat>(random_() % 3);
      options.zeros = random_() % 2 == 0;
      options.bias = random_() % 2 == 0;
      SCOPED_TRACE(testing::Message()
                   << "n=" << n << " k=" << k << " segment=" << options.segment
                   << " format=" << int(options.scale_format) << " zeros=" << options.zeros
                   << " bits=" << options.bits);
      const RandomLinear weights(random_, options);
      Check(weights, 1 + static_cast<int>(random_() % 3));
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(LinearTest, EverySegmentAndScaleFormat) {
  for (int segment : {32, 64, 128}) {
    for (ScaleFormat format : {ScaleFormat::kF16, ScaleFormat::kBF16, ScaleFormat::kF32}) {
      for (bool zeros : {false, true}) {
        for (int bits : {4, 8}) {
          SCOPED_TRACE(testing::Message()
                       << segment << " " << int(format) << " " << zeros << " bits=" << bits);
          const RandomLinear weights(random_, IntegerOptions{.n = 33,
                                                             .k = 300,
                                                             .segment = segment,
                                                             .scale_format = format,
                                                             .zeros = zeros,
                                                             .bits = bits});
          Check(weights, 5);
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

TEST_P(LinearTest, FourBitEveryNumberOfRows) {
  const RandomLinear weights(random_, W4Options{.n = 40, .k = 1200, .segment = 128, .bias = true});
  for (int num_rows : {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 25, 43, 101}) {
    SCOPED_TRACE(num_rows);
    Check(weights, num_rows);
    if (HasFatalFailure()) return;
  }
}

TEST_P(LinearTest, EightBitEveryNumberOfRows) {
  const RandomLinear weights(
      random_, IntegerOptions{.n = 72, .k = 1200, .segment = 64, .bias = true, .bits = 8});
  for (int num_rows : {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 25, 43, 101}) {
    SCOPED_TRACE(num_rows);
    Check(weights, num_rows);
    if (HasFatalFailure()) return;
  }
}

TEST_P(LinearTest, OneRowOverMoreGroupsThanARun) {
  for (int bits : {4, 8}) {
    const RandomLinear weights(
        random_,
        IntegerOptions{.n = 17, .k = 66 * 128, .segment = 32, .zeros = true, .bits = bits});
    Check(weights, 1);
  }
}

// Wide enough that a piece has several blocks, and a matrix several pieces of both kinds, on any
// number of threads (kernels/linear/product_split.h).
TEST_P(LinearTest, PiecesOfManyBlocks) {
  const int kThreads[] = {1, 2, 3, 7, 20};
  for (int i = 0; i < 12; ++i) {
    IntegerOptions options{.n = 300 + static_cast<int>(random_() % 900),
                           .k = 128 + static_cast<int>(random_() % 300)};
    options.bits = i % 2 == 0 ? 4 : 8;
    options.segment = i % 3 == 0 ? 32 : 128;
    options.zeros = random_() % 2 == 0;
    options.bias = random_() % 2 == 0;
    const int rows[] = {1, 2, 4, 6, 11, 12, 13, 47, 60, 97, 150};
    const int num_rows = rows[random_() % 11];
    const int num_threads = kThreads[random_() % 5];
    SCOPED_TRACE(testing::Message() << "n=" << options.n << " k=" << options.k << " bits="
                                    << options.bits << " segment=" << options.segment << " rows="
                                    << num_rows << " threads=" << num_threads);
    const RandomLinear weights(random_, options);
    const std::vector<float> floats = RandomActivations(random_, size_t(num_rows) * options.k);
    ThreadPool pool(num_threads);
    for (const ActivationBits bits : kBothBits) {
      const Activations x = FloatsOf(floats, num_rows, options.k, bits);
      const std::vector<float> y = Multiply(pool, weights.linear(), x, options.n + 5);
      std::vector<float> expected(y.size(), kUntouched);
      ref::RunLinear(weights.linear(), x, expected.data(), options.n + 5);
      ExpectSameBits(y, expected);
      if (HasFailure()) return;
    }
  }
}

TEST_P(LinearTest, PermutedInputs) {
  for (int bits : {4, 8}) {
    for (int num_rows : {1, 13}) {
      const RandomLinear weights(
          random_,
          IntegerOptions{.n = 20, .k = 389, .segment = 64, .permutation = true, .bits = bits});
      Check(weights, num_rows);
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(LinearTest, FloatWeightsAtTheEdgesOfTiles) {
  for (FloatFormat format : {FloatFormat::kF32, FloatFormat::kBF16, FloatFormat::kF16}) {
    for (int n : {1, 3, 4, 16, 17, 37}) {
      for (int num_rows : {1, 2, 3, 5, 6, 7, 12, 13, 43, 60}) {
        const int ks[] = {1, 15, 16, 17, 100, 256, 257, 700};
        const int k = ks[random_() % 8];
        SCOPED_TRACE(testing::Message()
                     << int(format) << " n=" << n << " k=" << k << " rows=" << num_rows);
        const RandomLinear weights(
            random_, DenseOptions{.n = n, .k = k, .format = format, .bias = random_() % 2 == 0});
        Check(weights, num_rows);
        if (HasFatalFailure()) return;
      }
    }
  }
}

// Against the same matrix widened to floats first: the same bits, wherever blocks begin and end.
TEST_P(LinearTest, EightBitFloatsAsTheirDecodedValues) {
  const int blocks[] = {1, 8, 16, 24, 32, 128, 700};
  for (int i = 0; i < 120; ++i) {
    const int ks[] = {1, 15, 16, 17, 100, 256, 257, 700};
    const int ns[] = {1, 3, 4, 16, 17, 37, 150};
    const int rows[] = {1, 2, 3, 5, 6, 7, 8, 12, 13, 43, 60};
    DenseOptions options{.n = ns[random_() % 7],
                         .k = ks[random_() % 8],
                         .format = FloatFormat::kE4M3,
                         .bias = random_() % 2 == 0};
    options.block_rows = blocks[random_() % 7];
    options.block_columns = blocks[random_() % 7];
    options.first_row = static_cast<int>(random_() % options.block_rows);
    options.first_column = static_cast<int>(random_() % options.block_columns);
    if (random_() % 2 == 0) options.first_column = options.first_column / 16 * 16;
    const int num_rows = rows[random_() % 11];
    SCOPED_TRACE(testing::Message()
                 << "n=" << options.n << " k=" << options.k << " rows=" << num_rows << " blocks "
                 << options.block_rows << "x" << options.block_columns << " from "
                 << options.first_row << ", " << options.first_column);
    const RandomLinear weights(random_, options);
    Check(weights, num_rows);
    if (HasFatalFailure()) return;
    std::vector<float> values(size_t(options.n) * options.k);
    for (size_t at = 0; at < values.size(); ++at) {
      values[at] = static_cast<float>(
          weights.weight(static_cast<int>(at / options.k), static_cast<int>(at % options.k)));
    }
    Linear widened = weights.linear();
    widened.dense = {options.n, options.k, FloatFormat::kF32, values.data(), {}};
    const std::vector<float> x = RandomActivations(random_, size_t(num_rows) * options.k);
    const Activations activations{
        .num_rows = num_rows, .k = options.k, .floats = x.data(), .quantized = {}};
    ExpectSameBits(Multiply(pool_, weights.linear(), activations, options.n),
                   Multiply(pool_, widened, activations, options.n));
    if (HasFailure()) return;
  }
}

TEST_P(LinearTest, ARowDoesNotDependOnItsNeighboursNorOnThreads) {
  const int k = 500;
  const int n = 90;
  const int num_rows = 30;
  const RandomLinear four_bit(random_, W4Options{.n = n, .k = k, .segment = 64, .zeros = true});
  const RandomLinear eight_bit(random_, IntegerOptions{.n = n, .k = k, .zeros = true, .bits = 8});
  const RandomLinear dense(random_, DenseOptions{.n = n, .k = k});
  const std::vector<float> floats = RandomActivations(random_, size_t(num_rows) * k);
  ThreadPool one(1);
  ThreadPool three(3);
  for (const ActivationBits bits : kBothBits) {
    const Activations all = FloatsOf(floats, num_rows, k, bits);
    for (const RandomLinear* weights : {&four_bit, &eight_bit, &dense}) {
      const std::vector<float> y = Multiply(three, weights->linear(), all, n);
      ExpectSameBits(Multiply(one, weights->linear(), all, n), y);
      for (int row = 0; row < num_rows; ++row) {
        Activations alone = all;
        alone.num_rows = 1;
        alone.floats += size_t(row) * k;
        const std::vector<float> y_alone = Multiply(pool_, weights->linear(), alone, n);
        for (int i = 0; i < n; ++i) ASSERT_EQ(BitsOf(y_alone[i]), BitsOf(y[row * n + i]));
      }
    }
  }
}

TEST_P(LinearTest, NotANumberStaysInItsRow) {
  const int k = 300;
  const RandomLinear four_bit(random_, W4Options{.n = 20, .k = k});
  const RandomLinear eight_bit(random_, IntegerOptions{.n = 20, .k = k, .bits = 8});
  const RandomLinear dense(random_, DenseOptions{.n = 20, .k = k});
  std::vector<float> floats = RandomActivations(random_, size_t{14} * k);
  floats[5 * k + 299] = std::numeric_limits<float>::quiet_NaN();
  for (const ActivationBits bits : kBothBits) {
    const Activations x = FloatsOf(floats, 14, k, bits);
    for (const RandomLinear* weights : {&four_bit, &eight_bit, &dense}) {
      const std::vector<float> y = Multiply(pool_, weights->linear(), x, 20);
      for (int i = 0; i < 14 * 20; ++i) ASSERT_EQ(std::isnan(y[i]), i / 20 == 5) << i;
    }
  }
}

TEST_P(LinearTest, MissingFormsAreMadeFromTheOthers) {
  const int k = 260;
  const int num_rows = 3;
  for (const ActivationBits bits : kBothBits) {
    const std::vector<float> floats = RandomActivations(random_, size_t{num_rows} * k);
    QuantizedRowsBuffer buffer(bits);
    QuantizeRows(pool_, floats.data(), num_rows, k, buffer);
    const Activations only_floats = FloatsOf(floats, num_rows, k, bits);
    const Activations only_quantized{
        .num_rows = num_rows, .k = k, .floats = nullptr, .quantized = buffer.view()};
    const RandomLinear four_bit(random_, W4Options{.n = 40, .k = k});
    const RandomLinear permuted(random_, W4Options{.n = 40, .k = k, .permutation = true});
    const RandomLinear eight_bit(random_,
                                 IntegerOptions{.n = 40, .k = k, .permutation = true, .bits = 8});
    for (const RandomLinear* weights : {&four_bit, &permuted, &eight_bit}) {
      ExpectSameBits(Multiply(pool_, weights->linear(), only_floats, 40),
                     Multiply(pool_, weights->linear(), only_quantized, 40));
    }
    // Float weights read what the quantized rows stand for.
    std::vector<float> dequantized(floats.size());
    for (int row = 0; row < num_rows; ++row) {
      DequantizeRow(bits, buffer.view().row_planes(row), buffer.view().row_scales(row), k,
                    &dequantized[size_t(row) * k]);
    }
    const Activations as_floats{
        .num_rows = num_rows, .k = k, .floats = dequantized.data(), .quantized = {}};
    const RandomLinear dense(random_, DenseOptions{.n = 40, .k = k});
    ExpectSameBits(Multiply(pool_, dense.linear(), only_quantized, 40),
                   Multiply(pool_, dense.linear(), as_floats, 40));
  }
}

TEST_P(LinearTest, SeveralProductsInOneLoop) {
  const int k = 256;
  const RandomLinear q(random_, W4Options{.n = 200, .k = k, .bias = true});
  const RandomLinear key(random_, IntegerOptions{.n = 24, .k = k, .permutation = true, .bits = 8});
  const RandomLinear value(random_, DenseOptions{.n = 24, .k = k});
  const RandomLinear other(random_, DenseOptions{.n = 50, .k = 77});
  for (int num_rows : {1, 40}) {
    const std::vector<float> floats = RandomActivations(random_, size_t(num_rows) * k);
    const std::vector<float> more = RandomActivations(random_, size_t(num_rows) * 77);
    const Activations x{.num_rows = num_rows, .k = k, .floats = floats.data(), .quantized = {}};
    const Activations x2{.num_rows = num_rows, .k = 77, .floats = more.data(), .quantized = {}};
    // q, k and v side by side in one array, as attention wants them.
    std::vector<float> qkv(num_rows * 248, kUntouched);
    std::vector<float> rest(num_rows * 50, kUntouched);
    const LinearCall calls[] = {{&q.linear(), &x, qkv.data(), 248},
                                {&key.linear(), &x, qkv.data() + 200, 248},
                                {&value.linear(), &x, qkv.data() + 224, 248},
                                {&other.linear(), &x2, rest.data(), 50}};
    RunLinears(pool_, calls);
    std::vector<float> expected(qkv.size());
    ref::RunLinear(q.linear(), x, expected.data(), 248);
    ref::RunLinear(key.linear(), x, expected.data() + 200, 248);
    ref::RunLinear(value.linear(), x, expected.data() + 224, 248);
    ExpectSameBits(qkv, expected);
    std::vector<float> expected_rest(rest.size());
    ref::RunLinear(other.linear(), x2, expected_rest.data(), 50);
    ExpectSameBits(rest, expected_rest);
  }
}

TEST_P(LinearTest, NoRowsIsNoWork) {
  const RandomLinear weights(random_, W4Options{});
  const Activations none{.num_rows = 0, .k = 128, .floats = nullptr, .quantized = {}};
  const LinearCall call{&weights.linear(), &none, nullptr, 16};
  RunLinears(pool_, {&call, 1});
}

}  // namespace
}  // namespace sheaf::kernels
