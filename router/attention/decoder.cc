#include "router/attention/decoder.h"

#include <algorithm>
#include <array>
#include <vector>

#include "base/check.h"
#include "base/status.h"
#include "kernels/experts/expert_gate.h"
#include "kernels/linear/dense_matrix.h"
#include "kernels/linear/linear.h"
#include "kernels/linear/quantized_rows.h"
#include "kernels/vector/rms_norm.h"
#include "kernels/vector/silu_mul.h"
#include "router/attention/activation_rows.h"
#include "router/attention/attention.h"
#include "router/attention/scratch.h"
#include "router/attention/step_rows.h"

namespace sheaf {
namespace {

using kernels::Activations;
using kernels::Linear;
using kernels::LinearCall;
using kernels::QuantizedRowsBuffer;

absl::Status AllAreOver() {
  return absl::AbortedError("every sequence of the step is over");
}

// The pool's lookout while a step computes: it passes the look on, and cuts what nobody wants.
class StepLookout final : public ThreadPool::Lookout {
 public:
  StepLookout(ThreadPool& pool, StepWatch* watch, size_t num_sequences)
      : pool_(pool), watch_(watch), num_sequences_(num_sequences) {
    if (watch_ != nullptr) pool_.SetLookout(this);
  }
  ~StepLookout() override { pool_.SetLookout(nullptr); }

  bool Look() override {
    watch_->Look();
    return may_cut_ && static_cast<size_t>(watch_->num_over()) == num_sequences_;
  }

  // A dispatch that is half written must not leave.
  void KeepWhole(bool whole) { may_cut_ = !whole; }

  // While others have the pool.
  void Pause() { pool_.SetLookout(nullptr); }
  void Resume() {
    if (watch_ != nullptr) pool_.SetLookout(this);
  }

 private:
  ThreadPool& pool_;
  StepWatch* const watch_;
  const size_t num_sequences_;
  bool may_cut_ = true;
};

}  // namespace

struct Decoder::Impl {
  Impl(const ModelConfig& model_config, const DecoderWeights& decoder_weights, HeadRange heads,
       const KvCache& kv_cache, ExpertLayer& expert_layer, ThreadPool& thread_pool,
       const DecoderOptions& decoder_options)
      : config(model_config),
        weights(decoder_weights),
        cache(kv_cache),
        experts(expert_layer),
        pool(thread_pool),
        options(decoder_options),
        hidden_size(config.hidden_size),
        vocab_size(weights.lm_head.view().n()),
        attention(MakeAttention({config, weights, heads, kv_cache, pool, options.max_batched_tokens,
                                 options.max_model_len, options.timings})),
        rows({options.max_batched_tokens, options.max_model_len, cache.block_size(),
              weights.embedding.n}),
        residual(Reserve(hidden_size)),
        normed(Reserve(hidden_size)),
        delta(Reserve(hidden_size)),
        shared_out(Reserve(hidden_size)),
        wide(Reserve(2 * std::max(config.intermediate_size, config.shared_intermediate_size()))),
        gate_logits(Reserve(std::max(1, config.num_experts))),
        route_weights(Reserve(std::max(1, config.experts_per_token))),
        logits(size_t(options.max_logit_rows) * vocab_size) {
    SHEAF_CHECK(weights.layers.size() == size_t(config.num_layers),
                "weights were loaded for this config");
    gates.resize(config.num_layers);
    for (int layer = config.num_dense_layers; layer < config.num_layers; ++layer) {
      gates[layer].storage = Linear::Storage::kDense;
      gates[layer].dense = weights.layers[layer].gate;
    }
  }

  size_t Reserve(int floats_per_row) const {
    return size_t(options.max_batched_tokens) * floats_per_row;
  }

  absl::Status LookUp(bool has_delta, bool has_shared);
  void MoveTogether(std::span<const int> kept, const Scratch& buffer) const;
  void Embed(const StepBatch& batch);
  void NormRows(const float* norm_weight, bool add_delta, bool add_shared);
  void Attend(int layer);
  void RunMlp(const FeedForwardWeights& mlp, QuantizedRowsBuffer& inner_quantized, float* out);
  absl::Status RunExperts(StepId step, int layer, StepLookout& lookout);
  absl::Status RunLmHead(const std::function<void(const LogitRows&)>& on_logits,
                         StepLookout& lookout);

  const ModelConfig& config;
  const DecoderWeights& weights;
  const KvCache& cache;
  ExpertLayer& experts;
  ThreadPool& pool;
  const DecoderOptions options;
  const int hidden_size;
  const int vocab_size;
  const std::unique_ptr<Attention> attention;
  std::vector<Linear> gates;  // by layer

  // The step in flight; row r of every buffer belongs to rows[r].
  StepRows rows;
  std::vector<int32_t> route_ids;
  StepWatch* watch = nullptr;
  int num_dropped = 0;  // sequences

  Scratch residual;       // [rows][hidden]
  Scratch normed;         // [rows][hidden]
  Scratch delta;          // [rows][hidden] what the last block adds to the residual
  Scratch shared_out;     // [rows][hidden] the shared expert's part of it
  Scratch wide;           // [rows][gate], [rows][up]
  Scratch gate_logits;    // [rows][num_experts]
  Scratch route_weights;  // [rows][top_k]
  Scratch logits;         // [max_logit_rows][vocab]
  QuantizedRowsBuffer normed_quantized;
  QuantizedRowsBuffer dense_inner_quantized;   // one for each width: a buffer that keeps its shape
  QuantizedRowsBuffer shared_inner_quantized;  // is not cleared again
};

// Looks. When more sequences are over than before, their rows go: everything that a half of a layer
// takes over from the last one is moved together. At the beginning of such a half.
absl::Status Decoder::Impl::LookUp(bool has_delta, bool has_shared) {
  if (watch == nullptr) return absl::OkStatus();
  watch->Look();
  if (watch->num_over() == num_dropped) return absl::OkStatus();
  num_dropped = watch->num_over();
  const std::span<const int> kept = rows.Drop(*watch);
  if (kept.empty()) return AllAreOver();
  MoveTogether(kept, residual);
  if (has_delta) MoveTogether(kept, delta);
  if (has_shared) MoveTogether(kept, shared_out);
  if (has_delta) attention->KeepRows(kept);
  watch->OnDropped();
  return absl::OkStatus();
}

void Decoder::Impl::MoveTogether(std::span<const int> kept, const Scratch& buffer) const {
  for (size_t to = 0; to < kept.size(); ++to) {
    const size_t from = static_cast<size_t>(kept[to]);
    if (from == to) continue;
    std::copy_n(buffer.data() + from * hidden_size, hidden_size, buffer.data() + to * hidden_size);
  }
}

void Decoder::Impl::Embed(const StepBatch& batch) {
  StageTimer timer(options.timings, &StepTimings::embedding);
  pool.ParallelFor(rows.size(), CostOfElements(hidden_size), [&](int64_t r, int) {
    const StepSequence& sequence = batch.sequences[rows[r].sequence];
    const TokenId token = sequence.tokens[rows[r].position - sequence.first_position];
    kernels::WidenToFloat(weights.embedding.row(token), weights.embedding.format, hidden_size,
                          residual.data() + r * hidden_size);
  });
}

// residual += delta (+ shared_out), normed = RMSNorm(residual), quantized once for every product
// that reads it.
void Decoder::Impl::NormRows(const float* norm_weight, bool add_delta, bool add_shared) {
  StageTimer timer(options.timings, &StepTimings::norm);
  normed_quantized.Resize(rows.size(), hidden_size);
  pool.ParallelFor(rows.size(), CostOfElements(hidden_size), [&](int64_t r, int) {
    const size_t at = r * hidden_size;
    if (add_shared) kernels::AddInto(shared_out.data() + at, hidden_size, delta.data() + at);
    if (add_delta) kernels::AddInto(delta.data() + at, hidden_size, residual.data() + at);
    kernels::RmsNorm(residual.data() + at, hidden_size, norm_weight, 1, hidden_size,
                     config.rms_norm_eps, normed.data() + at, hidden_size);
    QuantizeInto(normed.data() + at, hidden_size, static_cast<int>(r), normed_quantized);
  });
}

// delta = o_proj(attention(normed)).
void Decoder::Impl::Attend(int layer) {
  const int num_rows = rows.size();
  attention->Run(layer, rows.all(), RowsOf(normed.data(), normed_quantized, hidden_size, 0, num_rows),
                 delta.data());
}

// out = down(silu(gate x) * up x), x = normed.
void Decoder::Impl::RunMlp(const FeedForwardWeights& mlp, QuantizedRowsBuffer& inner_quantized,
                           float* out) {
  StageTimer timer(options.timings, &StepTimings::feed_forward);
  const int num_rows = rows.size();
  const int inner = mlp.gate.view().n();
  float* gate = wide.data();
  float* up = gate + size_t(num_rows) * inner;
  const Activations x = RowsOf(normed.data(), normed_quantized, hidden_size, 0, num_rows);
  const std::array<LinearCall, 2> calls = {LinearCall{&mlp.gate.view(), &x, gate, inner},
                                           LinearCall{&mlp.up.view(), &x, up, inner}};
  kernels::RunLinears(pool, calls);
  inner_quantized.Resize(num_rows, inner);
  pool.ParallelFor(num_rows, CostOfElements(3 * int64_t{inner}), [&](int64_t r, int) {
    float* row = gate + r * inner;
    kernels::SiluMul(row, up + r * inner, inner, row);
    QuantizeInto(row, inner, static_cast<int>(r), inner_quantized);
  });
  const Activations activated = RowsOf(gate, inner_quantized, inner, 0, num_rows);
  const LinearCall down{&mlp.down.view(), &activated, out, hidden_size};
  kernels::RunLinears(pool, {&down, 1});
}

// delta = the routed experts' sum; shared_out = the shared expert's output.
absl::Status Decoder::Impl::RunExperts(StepId step, int layer, StepLookout& lookout) {
  const LayerWeights& w = weights.layers[layer];
  const int num_rows = rows.size();
  const int top_k = config.experts_per_token;
  const Activations x = RowsOf(normed.data(), normed_quantized, hidden_size, 0, num_rows);
  {
    StageTimer timer(options.timings, &StepTimings::gate);
    const LinearCall call{&gates[layer], &x, gate_logits.data(), config.num_experts};
    kernels::RunLinears(pool, {&call, 1});
    const kernels::ExpertGateParams params{
        config.num_experts,
        top_k,
        config.num_groups,
        config.topk_groups,
        config.normalize_topk,
        config.routed_scaling,
        w.correction_bias.empty() ? nullptr : w.correction_bias.data()};
    route_ids.resize(size_t(num_rows) * top_k);
    pool.ParallelFor(num_rows, CostOfElements(8 * int64_t{config.num_experts}), [&](int64_t r, int) {
      kernels::SelectExperts(gate_logits.data() + r * config.num_experts, 1, params,
                             route_ids.data() + r * top_k, route_weights.data() + r * top_k);
    });
  }
  if (pool.cut()) return AllAreOver();
  lookout.KeepWhole(true);
  {
    StageTimer timer(options.timings, &StepTimings::experts);
    SHEAF_RETURN_IF_ERROR(experts.Begin(
        {step, LayerId(layer), x.quantized, top_k, route_ids.data(), route_weights.data()}));
  }
  if (config.num_shared_experts > 0)
    RunMlp(w.feed_forward, shared_inner_quantized, shared_out.data());
  StageTimer timer(options.timings, &StepTimings::experts);
  // On a machine of few cores a spinning thread would keep the awaited worker from running.
  if (options.experts_share_cores) pool.Park();
  SHEAF_RETURN_IF_ERROR(experts.Finish(delta.data()));
  lookout.KeepWhole(false);
  return absl::OkStatus();
}

// The final norm and the logits of the rows that want them; the others end here.
absl::Status Decoder::Impl::RunLmHead(const std::function<void(const LogitRows&)>& on_logits,
                                      StepLookout& lookout) {
  const std::span<const int> logit_rows = rows.logit_rows();
  if (logit_rows.empty()) return absl::OkStatus();
  const bool add_shared =
      config.num_layers > config.num_dense_layers && config.num_shared_experts > 0;
  const int num_wanted = static_cast<int>(logit_rows.size());
  {
    StageTimer timer(options.timings, &StepTimings::lm_head);
    normed_quantized.Resize(num_wanted, hidden_size);
    pool.ParallelFor(num_wanted, CostOfElements(hidden_size), [&](int64_t i, int) {
      const size_t at = size_t(logit_rows[i]) * hidden_size;
      float* out = normed.data() + i * hidden_size;
      if (add_shared) kernels::AddInto(shared_out.data() + at, hidden_size, delta.data() + at);
      kernels::AddInto(delta.data() + at, hidden_size, residual.data() + at);
      kernels::RmsNorm(residual.data() + at, hidden_size, weights.final_norm.data(), 1, hidden_size,
                       config.rms_norm_eps, out, hidden_size);
      QuantizeInto(out, hidden_size, static_cast<int>(i), normed_quantized);
    });
  }
  for (int first = 0; first < num_wanted; first += options.max_logit_rows) {
    const int count = std::min(options.max_logit_rows, num_wanted - first);
    {
      StageTimer timer(options.timings, &StepTimings::lm_head);
      const Activations x = RowsOf(normed.data(), normed_quantized, hidden_size, first, count);
      const LinearCall call{&weights.lm_head.view(), &x, logits.data(), vocab_size};
      kernels::RunLinears(pool, {&call, 1});
    }
    if (pool.cut()) return AllAreOver();
    lookout.Pause();
    on_logits({rows.logit_sources().subspan(first, count), logits.data(), vocab_size});
    lookout.Resume();
  }
  return absl::OkStatus();
}

Decoder::Decoder(const ModelConfig& config, const DecoderWeights& weights, HeadRange heads,
                 const KvCache& cache, ExpertLayer& experts, ThreadPool& pool,
                 const DecoderOptions& options)
    : impl_(std::make_unique<Impl>(config, weights, heads, cache, experts, pool, options)) {}

Decoder::~Decoder() = default;

int Decoder::vocab_size() const { return impl_->vocab_size; }
const DecoderOptions& Decoder::options() const { return impl_->options; }

absl::Status Decoder::Forward(const StepBatch& batch,
                              const std::function<void(const LogitRows&)>& on_logits,
                              StepWatch* watch) {
  Impl& impl = *impl_;
  const ModelConfig& config = impl.config;
  SHEAF_RETURN_IF_ERROR(impl.rows.Set(batch));
  if (impl.rows.size() == 0) return absl::OkStatus();
  StageTimer timer(impl.options.timings, &StepTimings::total);
  if (impl.options.timings != nullptr) ++impl.options.timings->steps;
  impl.watch = watch;
  impl.num_dropped = 0;
  StepLookout lookout(impl.pool, watch, batch.sequences.size());

  impl.Embed(batch);
  bool add_shared = false;  // whether the previous layer left a shared expert's output
  for (int layer = 0; layer < config.num_layers; ++layer) {
    const LayerWeights& w = impl.weights.layers[layer];
    SHEAF_RETURN_IF_ERROR(impl.LookUp(/*has_delta=*/layer > 0, add_shared));
    impl.NormRows(w.input_norm.data(), /*add_delta=*/layer > 0, add_shared);
    impl.Attend(layer);
    SHEAF_RETURN_IF_ERROR(impl.LookUp(/*has_delta=*/true, /*has_shared=*/false));
    impl.NormRows(w.post_attention_norm.data(), /*add_delta=*/true, /*add_shared=*/false);
    if (config.is_moe_layer(layer)) {
      SHEAF_RETURN_IF_ERROR(impl.RunExperts(batch.step, layer, lookout));
      add_shared = config.num_shared_experts > 0;
    } else {
      impl.RunMlp(w.feed_forward, impl.dense_inner_quantized, impl.delta.data());
    }
  }
  SHEAF_RETURN_IF_ERROR(impl.LookUp(/*has_delta=*/true, add_shared));
  return impl.RunLmHead(on_logits, lookout);
}

}  // namespace sheaf
