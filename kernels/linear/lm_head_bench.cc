// Prints what lm_head of GLM-4.6 takes as bf16 and as 8-bit integers (--lm-head-dtype), in turn, so
// that both see the same machine: medians of the times, and of the pairs' ratios.
//
//   lm_head_bench [threads] [pairs] [rows of the vocabulary]

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/linear/linear.h"
#include "kernels/machine/machine_limits_bench.h"
#include "kernels/simd/cpu_target.h"

namespace sheaf::kernels {
namespace {

constexpr int kHidden = 5120;

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

int Main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 2;
  const int pairs = argc > 2 ? std::atoi(argv[2]) : 15;
  const int vocabulary = argc > 3 ? std::atoi(argv[3]) : 151552;
  ThreadPool pool(threads);
  const BenchMemory floats(size_t{2} * vocabulary * kHidden);
  Linear dense;
  dense.storage = Linear::Storage::kDense;
  dense.dense = {vocabulary, kHidden, FloatFormat::kBF16, floats.data(), {}};
  Linear integers;
  integers.storage = Linear::Storage::kW8;
  PackedW8& w = integers.w8;
  w = {.n = vocabulary, .k = kHidden, .segment = 128, .scale_format = ScaleFormat::kF32};
  const BenchMemory codes(w.code_bytes());
  BenchMemory scales(w.scale_count() * sizeof(float));
  std::fill_n(reinterpret_cast<float*>(scales.data()), w.scale_count(), 1e-4f);
  w.codes = codes.data();
  w.scales = scales.data();
  std::printf(
      "target %s, %d threads, lm_head %d x %d: bf16 %.0f MB, int8 %.0f MB, read %.1f GB/s\n",
      ActiveCpuTarget().c_str(), threads, vocabulary, kHidden, 1e-6 * floats.size(),
      1e-6 * (codes.size() + scales.size()), ReadBandwidth(pool, floats));

  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (const int num_rows : {1, 8}) {
    std::vector<float> x(static_cast<size_t>(num_rows) * kHidden);
    for (float& value : x) value = normal(random);
    std::vector<float> y(static_cast<size_t>(num_rows) * vocabulary);
    QuantizedRowsBuffer quantized;
    QuantizeRows(pool, x.data(), num_rows, kHidden, quantized);
    const Activations activations{num_rows, kHidden, x.data(), quantized.view()};
    const auto seconds = [&](const Linear& linear) {
      const LinearCall call{&linear, &activations, y.data(), vocabulary};
      const auto begin = std::chrono::steady_clock::now();
      RunLinears(pool, {&call, 1});
      return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    };
    std::vector<double> as_floats, as_integers, ratios;
    for (int pair = -1; pair < pairs; ++pair) {
      const double before = seconds(dense), after = seconds(integers);
      if (pair < 0) continue;  // warm
      as_floats.push_back(before);
      as_integers.push_back(after);
      ratios.push_back(before / after);
    }
    const auto [least, most] = std::minmax_element(ratios.begin(), ratios.end());
    std::printf("%d rows: bf16 %.1f ms, int8 %.1f ms, %.2f times as fast (%.2f-%.2f, %d pairs)\n",
                num_rows, 1e3 * Median(as_floats), 1e3 * Median(as_integers), Median(ratios),
                *least, *most, pairs);
  }
  return 0;
}

}  // namespace
}  // namespace sheaf::kernels

int main(int argc, char** argv) { return sheaf::kernels::Main(argc, argv); }
