// Runs every kernel of this folder on fixed inputs, compares the dispatched implementation with the
// scalar reference bit by bit, and prints a checksum per kernel. kernels/ promises that the
// checksums are the same on every processor: neon_compiles.sh runs this program natively and,
// compiled for aarch64, under an emulator, and compares the output.
//
// usage: cross_target_bits auto|plain|dot
// The argument is the tile of products with integer weights (kernels/simd/dot_products.h): `auto`
// takes `dot` where the machine has it. Stderr names the one that ran.
//
// Stands alone (no GoogleTest, no abseil library), so that it needs nothing but a cross compiler.

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/attention/index_scores.h"
#include "kernels/attention/kv_format.h"
#include "kernels/attention/latent_attention.h"
#include "kernels/attention/paged_attention.h"
#include "kernels/attention/rope.h"
#include "kernels/attention/top_positions.h"
#include "kernels/experts/expert_gate.h"
#include "kernels/linear/linear.h"
#include "kernels/linear/scaled_fp8.h"
#include "kernels/simd/dot_products.h"
#include "kernels/simd/reference_switch.h"
#include "kernels/vector/exp.h"
#include "kernels/vector/layer_norm.h"
#include "kernels/vector/log.h"
#include "kernels/vector/rms_norm.h"
#include "kernels/vector/silu_mul.h"
#include "kernels/vector/softmax.h"

namespace sheaf::kernels {

// Stands in for kernels/simd/cpu_target.cc: always the SIMD code.
namespace internal {
constinit std::atomic<ReferenceMode> reference_mode{ReferenceMode::kSimd};
ReferenceMode DetectReferenceMode() { return ReferenceMode::kSimd; }
}  // namespace internal

namespace {

int failures = 0;

// Uniform in [-scale, scale): a plain generator, so that the inputs are the same everywhere.
class Random {
 public:
  uint32_t Next() {
    state_ = state_ * 6364136223846793005ull + 1442695040888963407ull;
    return static_cast<uint32_t>(state_ >> 32);
  }
  std::vector<float> Floats(size_t count, float scale) {
    std::vector<float> values(count);
    for (float& value : values) value = scale * (static_cast<float>(Next() >> 8) * 0x1p-23f - 1.0f);
    return values;
  }

 private:
  uint64_t state_ = 42;
};

uint32_t Bits(float x) { return std::isnan(x) ? 0x7FC00000 : std::bit_cast<uint32_t>(x); }

void Report(const char* name, const std::vector<float>& actual,
            const std::vector<float>& expected) {
  uint64_t hash = 1469598103934665603ull;
  for (size_t i = 0; i < actual.size(); ++i) {
    if (Bits(actual[i]) != Bits(expected[i])) {
      std::printf("%s: element %zu is %a and not %a\n", name, i, actual[i], expected[i]);
      ++failures;
      return;
    }
    hash = (hash ^ Bits(actual[i])) * 1099511628211ull;
  }
  std::printf("%s %016llx\n", name, static_cast<unsigned long long>(hash));
}

void Elementwise(Random& random) {
  const size_t n = 5123;
  std::vector<float> x = random.Floats(n, 90.0f);
  for (size_t i = 0; i < n; i += 3) x[i] = std::bit_cast<float>(random.Next());
  const std::vector<float> up = random.Floats(n, 2.0f);
  std::vector<float> a(n), b(n);
  Exp(x.data(), n, a.data());
  ref::Exp(x.data(), n, b.data());
  Report("exp", a, b);
  SiluMul(x.data(), up.data(), n, a.data());
  ref::SiluMul(x.data(), up.data(), n, b.data());
  Report("silu_mul", a, b);
  const std::vector<float> y = random.Floats(n, 3.0f);
  RmsNorm(y.data(), n, up.data(), 1, static_cast<int>(n), 1e-5f, a.data(), n);
  ref::RmsNorm(y.data(), n, up.data(), 1, static_cast<int>(n), 1e-5f, b.data(), n);
  Report("rms_norm", a, b);
  LayerNorm(y.data(), up.data(), x.data(), static_cast<int>(n), 1e-6f, a.data());
  ref::LayerNorm(y.data(), up.data(), x.data(), static_cast<int>(n), 1e-6f, b.data());
  Report("layer_norm", a, b);
  Softmax(y.data(), n, a.data());
  ref::Softmax(y.data(), n, b.data());
  Report("softmax", a, b);
  Report("log_sum_exp", {LogSumExp(y.data(), n)}, {ref::LogSumExp(y.data(), n)});
  AddWeighted(y.data(), 0.37f, n, a.data());
  ref::AddWeighted(y.data(), 0.37f, n, b.data());
  Report("add_weighted", a, b);
  std::vector<float> logs;
  for (const float value : y)
    logs.push_back(static_cast<float>(Log(std::fabs(value) + 1e-6) * 1e7));
  Report("log", logs, logs);
  const RopeTable table(50, 52, 10000.0);
  std::vector<float> heads = random.Floats(3 * 70, 1.0f), heads_ref = heads;
  ApplyRope(heads.data(), 3, 70, table, 49);
  ref::ApplyRope(heads_ref.data(), 3, 70, table, 49);
  Report("rope", heads, heads_ref);
  ApplyRope(heads.data(), 3, 70, table, 48, RopePairs::kInterleaved);
  ref::ApplyRope(heads_ref.data(), 3, 70, table, 48, RopePairs::kInterleaved);
  Report("rope_interleaved", heads, heads_ref);
  for (const Fp8Scale kind : {Fp8Scale::kExact, Fp8Scale::kPowerOfTwo}) {
    std::vector<uint8_t> stored(ScaledFp8Bytes(n)), stored_ref(stored.size());
    StoreScaledFp8(x.data(), n, kind, stored.data());
    ref::StoreScaledFp8(x.data(), n, kind, stored_ref.data());
    if (stored != stored_ref) {
      std::printf("scaled fp8 bytes differ\n");
      ++failures;
    }
    LoadScaledFp8(stored.data(), n, a.data());
    ref::LoadScaledFp8(stored_ref.data(), n, b.data());
    Report("scaled_fp8", a, b);
  }
  for (const KvFormat format : {KvFormat::kBF16, KvFormat::kFp8E4M3, KvFormat::kFp8E5M2}) {
    std::vector<uint8_t> stored(n * KvBytes(format)), stored_ref(stored.size());
    StoreKv(x.data(), n, format, stored.data());
    ref::StoreKv(x.data(), n, format, stored_ref.data());
    if (stored != stored_ref) {
      std::printf("kv bytes differ\n");
      ++failures;
    }
    LoadKv(stored.data(), n, format, a.data());
    ref::LoadKv(stored_ref.data(), n, format, b.data());
    Report(std::string(KvFormatName(format)).c_str(), a, b);
  }
}

void Gate(Random& random) {
  const std::vector<float> logits = random.Floats(20 * 120, 3.0f), bias = random.Floats(120, 0.2f);
  ExpertGateParams params;
  params.num_experts = 120;
  params.top_k = 8;
  params.num_groups = 4;
  params.topk_groups = 2;
  params.correction_bias = bias.data();
  std::vector<int32_t> ids(160), ids_ref(160);
  std::vector<float> weights(160), weights_ref(160);
  SelectExperts(logits.data(), 20, params, ids.data(), weights.data());
  ref::SelectExperts(logits.data(), 20, params, ids_ref.data(), weights_ref.data());
  weights.insert(weights.end(), ids.begin(), ids.end());
  weights_ref.insert(weights_ref.end(), ids_ref.begin(), ids_ref.end());
  Report("expert_gate", weights, weights_ref);
}

void Attention(Random& random) {
  for (const int head_dim : {128, 20}) {
    KvPool kv;
    kv.format = KvFormat::kBF16;
    kv.num_kv_heads = 2;
    kv.head_dim = head_dim;
    const int heads = 6, context = 200, tokens = 9;
    std::vector<uint8_t> memory(14 * kv.block_bytes());
    kv.data = memory.data();
    std::vector<int32_t> table(14);
    for (int i = 0; i < 14; ++i) table[i] = 13 - i;
    for (int p = 0; p < context + tokens; ++p) {
      const std::vector<float> k = random.Floats(2 * head_dim, 2.0f),
                               v = random.Floats(2 * head_dim, 2.0f);
      StoreKvToken(kv, table.data(), p, k.data(), v.data());
    }
    const std::vector<float> q = random.Floats(tokens * heads * head_dim, 2.0f);
    std::vector<float> out(q.size()), out_ref(q.size());
    AttentionSequence sequence = {table.data(), context, tokens, q.data(), out.data()};
    ThreadPool pool(2);
    const int stride = heads * head_dim;
    PagedAttention(pool, kv, heads, 0.1f, std::span(&sequence, 1), stride, stride);
    sequence.out = out_ref.data();
    ref::PagedAttention(kv, heads, 0.1f, std::span(&sequence, 1), stride, stride);
    Report("paged_attention", out, out_ref);
  }
}

void SparseAttention(Random& random) {
  const int heads = 9, context = 230, dim = 70;
  const std::vector<float> content = random.Floats(context * dim, 2.0f);
  std::vector<int32_t> table(15);
  for (int i = 0; i < 15; ++i) table[i] = 14 - i;
  const std::vector<float> q = random.Floats(heads * dim, 2.0f);
  const std::vector<float> weights = random.Floats(heads, 1.0f);
  ThreadPool pool(2);
  for (const KvFormat format : {KvFormat::kF32, KvFormat::kBF16, KvFormat::kFp8E4M3}) {
    IndexKeyPool keys = {.format = format, .dim = dim};
    std::vector<uint8_t> key_memory(15 * keys.block_bytes());
    keys.data = key_memory.data();
    LatentPool kv = {.format = format, .latent_dim = dim - 13, .rope_dim = 13};
    std::vector<uint8_t> kv_memory(15 * kv.block_bytes());
    kv.data = kv_memory.data();
    for (int p = 0; p < context; ++p) {
      const float* key = content.data() + p * dim;
      StoreIndexKey(keys, table.data(), p, key);
      StoreLatentToken(kv, table.data(), p, key, key + kv.latent_dim);
    }
    std::vector<float> scores(context), scores_ref(context);
    IndexQuery index = {table.data(), context, q.data(), weights.data(), scores.data()};
    IndexScores(pool, keys, heads, 0.1f, {&index, 1});
    index.scores = scores_ref.data();
    ref::IndexScores(keys, heads, 0.1f, {&index, 1});
    Report("index_scores", scores, scores_ref);

    std::vector<int32_t> positions(150);
    TopPositions(scores.data(), context, 150, positions.data());
    std::vector<float> out(heads * kv.latent_dim), out_ref(out.size());
    LatentQuery query = {table.data(), positions.data(), 150, q.data(), out.data()};
    LatentAttention(pool, kv, heads, 0.1f, {&query, 1});
    query.out = out_ref.data();
    ref::LatentAttention(kv, heads, 0.1f, {&query, 1});
    Report("latent_attention", out, out_ref);
  }
}

void Products(Random& random) {
  const int n = 37, k = 200, rows = 13;
  const std::vector<float> x = random.Floats(rows * k, 3.0f);
  QuantizedRowsBuffer quantized;
  QuantizedRowsBuffer bytes(ActivationBits::k8);
  ThreadPool pool(2);
  QuantizeRows(pool, x.data(), rows, k, quantized);
  QuantizeRows(pool, x.data(), rows, k, bytes);
  Activations activations;
  activations.num_rows = rows;
  activations.k = k;
  activations.floats = x.data();
  activations.quantized = quantized.view();

  Linear w4;
  w4.storage = Linear::Storage::kW4;
  w4.w4.n = n;
  w4.w4.k = k;
  w4.w4.segment = 64;
  w4.w4.scale_format = ScaleFormat::kF32;
  std::vector<uint32_t> nibbles(w4.w4.code_bytes() / 4);
  for (uint32_t& word : nibbles) word = random.Next();
  const std::vector<float> scales = random.Floats(w4.w4.scale_count(), 0.1f);
  w4.w4.codes = reinterpret_cast<const uint8_t*>(nibbles.data());
  w4.w4.scales = scales.data();
  Linear w4_zeros = w4;
  w4_zeros.w4.segment = 32;
  const std::vector<float> w4_scales = random.Floats(w4_zeros.w4.scale_count(), 0.1f);
  std::vector<uint8_t> w4_zero_points(w4_zeros.w4.scale_count());
  for (uint8_t& zero : w4_zero_points) zero = static_cast<uint8_t>(random.Next() % 16);
  w4_zeros.w4.scales = w4_scales.data();
  w4_zeros.w4.zeros = w4_zero_points.data();

  Linear w8;
  w8.storage = Linear::Storage::kW8;
  w8.w8 = {.n = n, .k = k, .segment = 64, .scale_format = ScaleFormat::kF32};
  std::vector<uint32_t> codes(w8.w8.code_bytes() / 4);
  for (uint32_t& word : codes) word = random.Next();
  w8.w8.codes = reinterpret_cast<const uint8_t*>(codes.data());
  w8.w8.scales = scales.data();
  Linear w8_zeros = w8;
  w8_zeros.w8.segment = 128;
  std::vector<uint8_t> zeros(w8.w8.scale_count());
  for (uint8_t& zero : zeros) zero = static_cast<uint8_t>(random.Next());
  w8_zeros.w8.zeros = zeros.data();
  // Products of the extremes: what 16-bit sums of signed bytes would not hold.
  Linear w8_extremes = w8;
  std::vector<uint8_t> extremes(w8.w8.code_bytes());
  for (uint8_t& code : extremes) code = random.Next() % 8 == 0 ? 255 : 0;
  w8_extremes.w8.codes = extremes.data();

  Linear dense;
  dense.storage = Linear::Storage::kDense;
  const std::vector<float> weights = random.Floats(n * k, 0.1f);
  dense.dense = {.n = n, .k = k, .format = FloatFormat::kF32, .data = weights.data(),
                 .scales = {}};

  Linear fp8;
  fp8.storage = Linear::Storage::kDense;
  std::vector<uint8_t> fp8_codes(n * k);
  for (uint8_t& code : fp8_codes) code = static_cast<uint8_t>(random.Next() % 0x7F);
  const std::vector<float> block_scales = random.Floats(4, 0.01f);
  fp8.dense = {.n = n,
               .k = k,
               .format = FloatFormat::kE4M3,
               .data = fp8_codes.data(),
               .scales = {block_scales.data(), 32, 128, 2, 0, 0}};

  const std::pair<const char*, const Linear*> linears[] = {{"w4a16", &w4},
                                                           {"w4a16 with zeros", &w4_zeros},
                                                           {"w8a16", &w8},
                                                           {"w8a16 with zeros", &w8_zeros},
                                                           {"w8a16 of extremes", &w8_extremes},
                                                           {"dense_product", &dense},
                                                           {"dense_product e4m3", &fp8}};
  for (const auto& [name, linear] : linears) {
    for (const ActivationBits bits : {ActivationBits::k16, ActivationBits::k8}) {
      if (bits == ActivationBits::k8 && !linear->is_integer()) continue;
      activations.quantized = bits == ActivationBits::k8 ? bytes.view() : quantized.view();
      // Every number of rows: tiles of every height.
      std::vector<float> all, all_ref;
      for (int num_rows = 1; num_rows <= rows; ++num_rows) {
        activations.num_rows = activations.quantized.num_rows = num_rows;
        std::vector<float> y(num_rows * n), y_ref(num_rows * n);
        const LinearCall call = {linear, &activations, y.data(), n};
        RunLinears(pool, std::span(&call, 1));
        ref::RunLinear(*linear, activations, y_ref.data(), n);
        all.insert(all.end(), y.begin(), y.end());
        all_ref.insert(all_ref.end(), y_ref.begin(), y_ref.end());
      }
      const char* of = bits == ActivationBits::k8 ? " of 8-bit activations" : "";
      Report((std::string(name) + of).c_str(), all, all_ref);
    }
  }
}

}  // namespace
}  // namespace sheaf::kernels

int main(int argc, char** argv) {
  const std::string_view tile = argc == 2 ? argv[1] : "";
  if (tile != "auto" && tile != "plain" && tile != "dot") {
    std::fprintf(stderr, "usage: cross_target_bits auto|plain|dot\n");
    return 2;
  }
  const bool dots =
      tile == "dot" || (tile == "auto" && sheaf::kernels::MachineHasDotProducts());
  sheaf::kernels::internal::use_dot_products.store(dots);
  std::fprintf(stderr, "%s\n", dots ? "dot" : "plain");
  sheaf::kernels::Random random;
  sheaf::kernels::Elementwise(random);
  sheaf::kernels::Gate(random);
  sheaf::kernels::Attention(random);
  sheaf::kernels::SparseAttention(random);
  sheaf::kernels::Products(random);
  return sheaf::kernels::failures == 0 ? 0 : 1;
}
