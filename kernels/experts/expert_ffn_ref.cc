#include <algorithm>
#include <vector>

#include "kernels/experts/expert_ffn.h"
#include "kernels/vector/silu_mul.h"

namespace sheaf::kernels::ref {

void RunExpert(const QuantizedRows& x, const ExpertJob& job) {
  const ExpertWeights& weights = *job.weights;
  for (size_t i = 0; i < job.rows.size(); ++i) {
    const int row = job.rows[i];
    Activations one;
    one.num_rows = 1;
    one.k = x.k;
    one.quantized = {.num_rows = 1,
                     .k = x.k,
                     .bits = x.bits,
                     .planes = x.row_planes(row),
                     .scales = x.row_scales(row),
                     .sums = x.row_sums(row)};
    const int intermediate = weights.gate.n();
    std::vector<float> gate(intermediate);
    std::vector<float> up(intermediate);
    ref::RunLinear(weights.gate, one, gate.data(), intermediate);
    ref::RunLinear(weights.up, one, up.data(), intermediate);
    ref::SiluMul(gate.data(), up.data(), intermediate, gate.data());
    Activations inner;
    inner.num_rows = 1;
    inner.k = intermediate;
    inner.floats = gate.data();
    inner.quantized.bits = x.bits;
    const int hidden = weights.down.n();
    ref::RunLinear(weights.down, inner, job.out + i * hidden, hidden);
  }
}

}  // namespace sheaf::kernels::ref
