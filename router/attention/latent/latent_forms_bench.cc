// Prints what the two forms of latent attention cost at GLM-5.1's dimensions (64 heads, latents of
// 512, 4-bit kv_b_proj): one layer of a step of some tokens at the end of a context in which every
// token attends to all positions before it. Decision 0008 chose by it.
//
//   naive     kv_b_proj of every position of the context, keys and values stored for each head,
//             attention over heads of 256
//   absorbed  queries into the latents' space, attention over latents, results out of it
//
// Left out: what both share (projections, indexer, output), and keeping naive keys and values for
// later steps, which would take 57 times the memory of the latents.
//
//   latent_forms_bench [threads] [seconds per case]

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/attention/latent_attention.h"
#include "kernels/attention/paged_attention.h"
#include "kernels/machine/machine_limits_bench.h"
#include "kernels/simd/cpu_target.h"
#include "router/attention/activation_rows.h"
#include "router/attention/latent/absorption.h"

namespace sheaf {
namespace {

using kernels::BenchMemory;

constexpr int kHeads = 64, kNope = 192, kRope = 64, kV = 256, kRank = 512;
constexpr int kQk = kNope + kRope, kUp = kHeads * (kNope + kV);
constexpr int kContext = 2048;  // what a token of GLM-5.1 attends to at most
constexpr int kRows = 64;       // expanded or absorbed at once
constexpr float kScale = 0.0625f;

class Forms {
 public:
  Forms(ThreadPool& pool, double budget_s)
      : pool_(pool),
        budget_s_(budget_s),
        nibbles_(size_t{kUp} * kRank / 2),
        scales_(size_t{kUp} * kRank / 128 * 2),
        keys_memory_(kContext * size_t{2} * kHeads * kQk * 2),
        latents_memory_(kContext * size_t{kRank + kRope} * 2),
        absorption_({kHeads, kNope, kRank, kV, kRank / 128}, kRows, pool),
        latents_(Normals(size_t{kContext} * (kRank + kRope))),
        q_(Normals(size_t{kContext} * kHeads * kQk)),
        expanded_(size_t{kRows} * kUp),
        absorbed_(size_t{kRows} * kHeads * (kRank + kRope)),
        latent_out_(size_t{kRows} * kHeads * kRank),
        out_(size_t{kContext} * kHeads * kV) {
    std::fill_n(reinterpret_cast<uint16_t*>(scales_.data()), scales_.size() / 2, uint16_t{0x2000});
    kv_b_.storage = kernels::Linear::Storage::kW4;
    kv_b_.w4 = {.n = kUp,
                .k = kRank,
                .segment = 128,
                .scale_format = kernels::ScaleFormat::kF16,
                .codes = nibbles_.data(),
                .scales = scales_.data()};
    absorbed_kv_ = *AbsorbedKv::Build(kv_b_, kHeads, kNope, kV);
    for (int i = 0; i * 16 < kContext; ++i) table_.push_back(kContext / 16 - 1 - i);
    keys_ = {.format = kernels::KvFormat::kBF16,
             .num_kv_heads = kHeads,
             .head_dim = kQk,
             .data = keys_memory_.data()};
    cache_ = {.format = kernels::KvFormat::kBF16,
              .latent_dim = kRank,
              .rope_dim = kRope,
              .data = latents_memory_.data()};
    for (int p = 0; p < kContext; ++p) {
      kernels::StoreLatentToken(cache_, table_.data(), p, latent(p), latent(p) + kRank);
    }
  }

  void Compare(int tokens, int context) {
    const double naive = kernels::MedianSeconds([&](int) { Naive(tokens, context); }, budget_s_);
    const double absorbed =
        kernels::MedianSeconds([&](int) { Absorbed(tokens, context); }, budget_s_);
    std::printf("context %5d, tokens %5d: naive %9.2f ms, absorbed %9.2f ms, ratio %6.2f\n",
                context, tokens, 1e3 * naive, 1e3 * absorbed, naive / absorbed);
    std::fflush(stdout);
  }

 private:
  static std::vector<float> Normals(size_t count) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<float> values(count);
    for (float& value : values) value = normal(random);
    return values;
  }
  const float* latent(int position) const {
    return latents_.data() + size_t(position) * (kRank + kRope);
  }
  const float* query(int token) const { return q_.data() + size_t(token) * kHeads * kQk; }

  void Naive(int tokens, int context) {
    for (int first = 0; first < context; first += kRows) {
      const int count = std::min(kRows, context - first);
      quantized_.Resize(count, kRank);
      pool_.ParallelFor(count, [&](int64_t i, int) {
        QuantizeInto(latent(first + i), kRank, static_cast<int>(i), quantized_);
      });
      const kernels::Activations x{count, kRank, nullptr, quantized_.view()};
      const kernels::LinearCall call{&kv_b_, &x, expanded_.data(), kUp};
      kernels::RunLinears(pool_, {&call, 1});
      pool_.ParallelFor(count, [&](int64_t i, int) {
        std::vector<float> k(kHeads * kQk), v(kHeads * kV);
        for (int head = 0; head < kHeads; ++head) {
          const float* const from = expanded_.data() + i * kUp + head * (kNope + kV);
          std::memcpy(k.data() + head * kQk, from, kNope * sizeof(float));
          std::memcpy(k.data() + head * kQk + kNope, latent(first + i) + kRank,
                      kRope * sizeof(float));
          std::memcpy(v.data() + head * kV, from + kNope, kV * sizeof(float));
        }
        kernels::StoreKvToken(keys_, table_.data(), first + static_cast<int>(i), k.data(),
                              v.data());
      });
    }
    const kernels::AttentionSequence sequence = {table_.data(), context - tokens, tokens, query(0),
                                                 out_.data()};
    kernels::PagedAttention(pool_, keys_, kHeads, kScale, {&sequence, 1}, kHeads * kQk,
                            kHeads * kV);
  }

  void Absorbed(int tokens, int context) {
    constexpr int kKey = kRank + kRope;
    for (int first = 0; first < tokens; first += kRows) {
      const int count = std::min(kRows, tokens - first);
      absorption_.IntoLatent(absorbed_kv_, {query(first), kHeads * kQk, kQk}, count,
                             absorbed_.data(), kHeads * kKey, kKey);
      queries_.clear();
      for (int i = 0; i < count; ++i) {
        for (int head = 0; head < kHeads; ++head) {
          std::memcpy(absorbed_.data() + (i * kHeads + head) * kKey + kRank,
                      query(first + i) + head * kQk + kNope, kRope * sizeof(float));
        }
        queries_.push_back({table_.data(), nullptr, context - tokens + first + i + 1,
                            absorbed_.data() + size_t(i) * kHeads * kKey,
                            latent_out_.data() + size_t(i) * kHeads * kRank});
      }
      kernels::LatentAttention(pool_, cache_, kHeads, kScale, queries_);
      absorption_.OutOfLatent(absorbed_kv_, {latent_out_.data(), kHeads * kRank, kRank}, count,
                              out_.data() + size_t(first) * kHeads * kV, kHeads * kV);
    }
  }

  ThreadPool& pool_;
  const double budget_s_;
  BenchMemory nibbles_, scales_, keys_memory_, latents_memory_;
  kernels::Linear kv_b_;
  AbsorbedKv absorbed_kv_;
  Absorption absorption_;
  kernels::KvPool keys_;
  kernels::LatentPool cache_;
  std::vector<int32_t> table_;
  const std::vector<float> latents_, q_;
  kernels::QuantizedRowsBuffer quantized_;
  std::vector<float> expanded_, absorbed_, latent_out_, out_;
  std::vector<kernels::LatentQuery> queries_;
};

}  // namespace
}  // namespace sheaf

int main(int argc, char** argv) {
  sheaf::ThreadPool pool(argc > 1 ? std::atoi(argv[1]) : 2);
  std::printf("%d threads, %s\n", pool.num_threads(), sheaf::kernels::ActiveCpuTarget().c_str());
  sheaf::Forms forms(pool, argc > 2 ? std::atof(argv[2]) : 0.5);
  for (const int tokens : {1, 16, 64, 256, 1024, 2048}) forms.Compare(tokens, 2048);
  for (const int tokens : {1, 16, 64, 256, 1024}) forms.Compare(tokens, tokens);
  return 0;
}
