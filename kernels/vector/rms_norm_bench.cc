// Prints the time a token spends in a layer's small steps at GLM-4.6's dimensions: norms, rotary
// positions, the expert gate's choice, silu of one expert.

#include <benchmark/benchmark.h>

#include <vector>

#include "kernels/attention/rope.h"
#include "kernels/experts/expert_gate.h"
#include "kernels/vector/rms_norm.h"
#include "kernels/vector/silu_mul.h"

namespace sheaf::kernels {
namespace {

void BM_RmsNormHidden(benchmark::State& state) {
  std::vector<float> x(5120, 1.5f), weight(5120, 0.5f), out(5120);
  for (auto _ : state) {
    RmsNorm(x.data(), 5120, weight.data(), 1, 5120, 1e-5f, out.data(), 5120);
    benchmark::ClobberMemory();
  }
}
BENCHMARK(BM_RmsNormHidden)->MinTime(0.1);

void BM_RmsNormOf96Heads(benchmark::State& state) {
  std::vector<float> x(96 * 128, 1.5f), weight(128, 0.5f);
  for (auto _ : state) {
    RmsNorm(x.data(), 128, weight.data(), 96, 128, 1e-5f, x.data(), 128);
    benchmark::ClobberMemory();
  }
}
BENCHMARK(BM_RmsNormOf96Heads)->MinTime(0.1);

void BM_RopeOf96Heads(benchmark::State& state) {
  std::vector<float> x(96 * 128, 1.5f);
  const RopeTable table(4096, 64, 1e6);
  for (auto _ : state) {
    ApplyRope(x.data(), 96, 128, table, 1234);
    benchmark::ClobberMemory();
  }
}
BENCHMARK(BM_RopeOf96Heads)->MinTime(0.1);

void BM_Select8Of160(benchmark::State& state) {
  std::vector<float> logits(160), bias(160, 0.1f), weights(8);
  for (int i = 0; i < 160; ++i) logits[i] = static_cast<float>(i * 37 % 160) / 40.0f - 2.0f;
  std::vector<int32_t> ids(8);
  ExpertGateParams params;
  params.num_experts = 160;
  params.top_k = 8;
  params.correction_bias = bias.data();
  for (auto _ : state) {
    SelectExperts(logits.data(), 1, params, ids.data(), weights.data());
    benchmark::ClobberMemory();
  }
}
BENCHMARK(BM_Select8Of160)->MinTime(0.1);

void BM_SiluMul1536(benchmark::State& state) {
  std::vector<float> gate(1536, 0.7f), up(1536, 1.1f), out(1536);
  for (auto _ : state) {
    SiluMul(gate.data(), up.data(), 1536, out.data());
    benchmark::ClobberMemory();
  }
}
BENCHMARK(BM_SiluMul1536)->MinTime(0.1);

}  // namespace
}  // namespace sheaf::kernels

BENCHMARK_MAIN();
