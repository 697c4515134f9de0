// Prints speed of the products at the shapes of GLM-4.6: median time, bytes and multiply-adds a
// second, and their share of what the machine can read and multiply, measured in the same run.
//
//   linear_bench [threads] [seconds per case] [part of a case's name]
//
// Products with integer weights read activations of 16 bits, then of 8 ("a8").
//
// Weights rotate over more memory than any cache holds, so that each repetition reads them cold.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/linear/linear.h"
#include "kernels/machine/machine_limits_bench.h"
#include "kernels/simd/cpu_target.h"

namespace sheaf::kernels {
namespace {

constexpr int kRows[] = {1, 8, 32, 43, 64, 512};

struct Case {
  const char* name;
  int n;
  int k;
  int bits;  // of integer weights; 0 = floats
  FloatFormat format;
};

// All copies share one set of scales (2^-7 in float16), which stays in the cache: only the codes
// are counted.
Linear MakeLinear(const Case& c, const BenchMemory& memory, const BenchMemory& scales, int copy) {
  Linear linear;
  if (c.bits == 8) {
    linear.storage = Linear::Storage::kW8;
    linear.w8 = {.n = c.n, .k = c.k, .segment = 128, .scale_format = ScaleFormat::kF16};
    linear.w8.codes = memory.data() + copy * linear.w8.code_bytes();
    linear.w8.scales = scales.data();
  } else if (c.bits == 4) {
    linear.storage = Linear::Storage::kW4;
    linear.w4 = {.n = c.n, .k = c.k, .segment = 128, .scale_format = ScaleFormat::kF16};
    const size_t bytes = linear.w4.code_bytes() / 64 * 64;
    linear.w4.codes = memory.data() + copy * bytes;
    linear.w4.scales = scales.data();
  } else {
    linear.storage = Linear::Storage::kDense;
    linear.dense = {.n = c.n, .k = c.k, .format = c.format, .data = nullptr, .scales = {}};
    // The scales of every copy are the same, and of blocks of 128 x 128.
    if (c.format == FloatFormat::kE4M3) {
      const auto* values = reinterpret_cast<const float*>(scales.data());
      linear.dense.scales = {values, 128, 128, (c.k + 127) / 128, 0, 0};
    }
    linear.dense.data =
        memory.data() + copy * static_cast<size_t>(c.n) * c.k * FloatBytes(c.format);
  }
  return linear;
}

size_t WeightBytes(const Linear& linear) {
  if (linear.storage == Linear::Storage::kW4) return linear.w4.code_bytes();
  if (linear.storage == Linear::Storage::kW8) return linear.w8.code_bytes();
  return static_cast<size_t>(linear.dense.n) * linear.dense.k * FloatBytes(linear.dense.format);
}

void RunRows(ThreadPool& pool, const Case& c, std::span<const Linear> linears, int num_rows,
             ActivationBits bits, const BenchMemory& memory, double peak, double budget_s) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<size_t>(num_rows) * c.k);
  for (float& value : x) value = normal(random);
  std::vector<float> y(static_cast<size_t>(num_rows) * c.n);
  QuantizedRowsBuffer quantized(bits);
  QuantizeRows(pool, x.data(), num_rows, c.k, quantized);
  const Activations activations{num_rows, c.k, x.data(), quantized.view()};
  const double bandwidth = ReadBandwidth(pool, memory);
  const double seconds = MedianSeconds(
      [&](int repetition) {
        const LinearCall call{&linears[static_cast<size_t>(repetition) % linears.size()],
                              &activations, y.data(), c.n};
        RunLinears(pool, {&call, 1});
      },
      budget_s);
  const double gbytes = WeightBytes(linears[0]) / seconds * 1e-9;
  const double gmacs = 1e-9 * num_rows * c.n * c.k / seconds;
  std::printf(
      "%-22s%s %5d rows %9.0f us %6.1f GB/s (%3.0f%% of read) %7.1f GMAC/s (%3.0f%% of peak)\n",
      c.name, bits == ActivationBits::k8 ? " a8" : "   ", num_rows, seconds * 1e6, gbytes,
      100 * gbytes / bandwidth, gmacs, peak > 0 ? 100 * gmacs / peak : 0);
  std::fflush(stdout);
}

void RunCase(ThreadPool& pool, const Case& c, const BenchMemory& memory, const BenchMemory& scales,
             double peak, double budget_s) {
  const int copies =
      static_cast<int>(memory.size() / WeightBytes(MakeLinear(c, memory, scales, 0)));
  std::vector<Linear> linears;
  for (int copy = 0; copy < copies; ++copy) linears.push_back(MakeLinear(c, memory, scales, copy));
  for (int num_rows : kRows) {
    RunRows(pool, c, linears, num_rows, ActivationBits::k16, memory, peak, budget_s);
    if (c.bits == 0) continue;
    RunRows(pool, c, linears, num_rows, ActivationBits::k8, memory, peak, budget_s);
  }
}

int Main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 2;
  const double budget_s = argc > 2 ? std::atof(argv[2]) : 0.5;
  const std::string only = argc > 3 ? argv[3] : "";
  ThreadPool pool(threads);
  const BenchMemory memory(size_t{768} << 20);
  BenchMemory scales(size_t{8} << 20);
  std::fill_n(reinterpret_cast<uint16_t*>(scales.data()), scales.size() / 2, uint16_t{0x2000});
  const double two_plane = TwoPlanePeak(pool);
  const double fma = FloatPeak(pool);
  std::printf(
      "target %s, %d threads, two-plane peak %.0f GMAC/s, float peak %.0f GMAC/s, read %.1f GB/s\n",
      ActiveCpuTarget().c_str(), threads, two_plane, fma, ReadBandwidth(pool, memory));
  const Case cases[] = {{"w4 q_proj 12288x5120", 12288, 5120, 4, {}},
                        {"w8 q_proj 12288x5120", 12288, 5120, 8, {}},
                        {"fp8 q_proj 12288x5120", 12288, 5120, 0, FloatFormat::kE4M3},
                        {"w4 gate 1536x5120", 1536, 5120, 4, {}},
                        {"w8 gate 1536x5120", 1536, 5120, 8, {}},
                        {"w4 down 5120x1536", 5120, 1536, 4, {}},
                        {"w8 down 5120x1536", 5120, 1536, 8, {}},
                        {"bf16 lm_head 8192x5120", 8192, 5120, 0, FloatFormat::kBF16},
                        {"fp8 lm_head 8192x5120", 8192, 5120, 0, FloatFormat::kE4M3},
                        {"f32 gate 96x5120", 96, 5120, 0, FloatFormat::kF32}};
  for (const Case& c : cases) {
    if (std::string(c.name).find(only) == std::string::npos) continue;
    RunCase(pool, c, memory, scales, c.bits != 0 ? two_plane : fma, budget_s);
  }
  return 0;
}

}  // namespace
}  // namespace sheaf::kernels

int main(int argc, char** argv) { return sheaf::kernels::Main(argc, argv); }
