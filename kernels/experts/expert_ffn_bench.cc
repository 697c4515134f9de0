// Prints the speed of the routed experts of one GLM-4.6 layer (hidden 5120, intermediate 1536):
// decode with 8 experts a token, and prefill with every expert of a layer at work; each as a share
// of what the machine can read and multiply, measured in the same run. With 4-bit weights, then
// with 8-bit ones, each with activations of 16 bits, then of 8 ("a8").
//
//   expert_ffn_bench [threads] [seconds per case]

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/experts/expert_ffn.h"
#include "kernels/machine/machine_limits_bench.h"
#include "kernels/simd/cpu_target.h"

namespace sheaf::kernels {
namespace {

constexpr int kHidden = 5120;
constexpr int kIntermediate = 1536;

class Layer {
 public:
  Layer(int num_experts, int bits)
      : bits_(bits),
        memory_(num_experts * size_t{3} * kHidden * kIntermediate * bits / 8),
        scales_(size_t{4} << 20) {
    // 2^-7 in float16: activations stay of ordinary size.
    std::fill_n(reinterpret_cast<uint16_t*>(scales_.data()), scales_.size() / 2, uint16_t{0x2000});
    for (int expert = 0; expert < num_experts; ++expert) {
      experts_.push_back({Part(3 * expert, kIntermediate, kHidden),
                          Part(3 * expert + 1, kIntermediate, kHidden),
                          Part(3 * expert + 2, kHidden, kIntermediate)});
    }
  }
  const ExpertWeights& expert(int i) const { return experts_[i % experts_.size()]; }
  int size() const { return static_cast<int>(experts_.size()); }
  int bits() const { return bits_; }
  const BenchMemory& memory() const { return memory_; }

 private:
  Linear Part(int index, int n, int k) const {
    Linear linear;
    if (bits_ == 8) {
      linear.storage = Linear::Storage::kW8;
      linear.w8 = {.n = n, .k = k, .segment = 128, .scale_format = ScaleFormat::kF16};
      linear.w8.codes = memory_.data() + index * linear.w8.code_bytes();
      linear.w8.scales = scales_.data();
      return linear;
    }
    linear.storage = Linear::Storage::kW4;
    linear.w4 = {.n = n, .k = k, .segment = 128, .scale_format = ScaleFormat::kF16};
    linear.w4.codes = memory_.data() + index * linear.w4.code_bytes();
    linear.w4.scales = scales_.data();
    return linear;
  }

  const int bits_;
  BenchMemory memory_;
  BenchMemory scales_;
  std::vector<ExpertWeights> experts_;
};

void RunCase(ThreadPool& pool, const Layer& layer, int num_experts, int rows_each,
             ActivationBits bits, double peak, double budget_s) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  const int num_tokens = std::max(rows_each, 512 < num_experts * rows_each ? 512 : 1);
  std::vector<float> x(static_cast<size_t>(num_tokens) * kHidden);
  for (float& value : x) value = normal(random);
  QuantizedRowsBuffer quantized(bits);
  QuantizeRows(pool, x.data(), num_tokens, kHidden, quantized);
  std::vector<float> out(static_cast<size_t>(num_experts) * rows_each * kHidden);
  std::vector<std::vector<int32_t>> rows(num_experts);
  for (auto& list : rows) {
    for (int i = 0; i < rows_each; ++i) list.push_back(static_cast<int32_t>(random() % num_tokens));
    std::sort(list.begin(), list.end());
  }
  ExpertScratch scratch;
  const double bandwidth = ReadBandwidth(pool, layer.memory());
  const double seconds = MedianSeconds(
      [&](int repetition) {
        std::vector<ExpertJob> jobs;
        for (int e = 0; e < num_experts; ++e) {
          jobs.push_back({&layer.expert(repetition * num_experts + e), rows[e],
                          out.data() + static_cast<size_t>(e) * rows_each * kHidden});
        }
        RunExperts(pool, quantized.view(), jobs, scratch);
      },
      budget_s);
  const double weights = 3.0 * kHidden * kIntermediate;
  const double gbytes = 1e-9 * num_experts * weights * layer.bits() / 8 / seconds;
  const double gmacs = 1e-9 * num_experts * rows_each * weights / seconds;
  std::printf(
      "w%d%s %3d experts x %3d rows %9.0f us %6.1f GB/s (%3.0f%% of read) %7.1f GMAC/s (%3.0f%% of "
      "peak)\n",
      layer.bits(), bits == ActivationBits::k8 ? " a8" : "   ", num_experts, rows_each,
      seconds * 1e6, gbytes, 100 * gbytes / bandwidth, gmacs, peak > 0 ? 100 * gmacs / peak : 0);
  std::fflush(stdout);
}

void RunLayer(ThreadPool& pool, const Layer& layer, double budget_s) {
  const double peak = TwoPlanePeak(pool);
  std::printf("target %s, %d threads, two-plane peak %.0f GMAC/s, read %.1f GB/s\n",
              ActiveCpuTarget().c_str(), pool.num_threads(), peak,
              ReadBandwidth(pool, layer.memory()));
  constexpr struct {
    int num_experts;
    int rows_each;
  } kCases[] = {{8, 1}, {48, 1}, {24, 3}, {8, 12}, {16, 43}, {8, 128}};
  for (const auto& c : kCases) {
    for (const ActivationBits bits : {ActivationBits::k16, ActivationBits::k8})
      RunCase(pool, layer, c.num_experts, c.rows_each, bits, peak, budget_s);
  }
}

int Main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 2;
  const double budget_s = argc > 2 ? std::atof(argv[2]) : 1.0;
  ThreadPool pool(threads);
  for (const int bits : {4, 8}) RunLayer(pool, Layer(bits == 4 ? 96 : 48, bits), budget_s);
  return 0;
}

}  // namespace
}  // namespace sheaf::kernels

int main(int argc, char** argv) { return sheaf::kernels::Main(argc, argv); }
