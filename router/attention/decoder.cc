#include "router/attention/decoder.h"

#include <algorithm>
#include <array>
#include <optional>
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
#include "router/attention/rank_rows.h"
#include "router/attention/scratch.h"
#include "router/attention/step_plan.h"
#include "router/attention/step_rows.h"

namespace sheaf {
namespace {

using kernels::Activations;
using kernels::Linear;
using kernels::LinearCall;
using kernels::QuantizedRowsBuffer;

// Whether a product whose inputs the ranks make in these columns reads nothing but whole int16
// groups.
bool ReadsWholeGroups(const Linear& linear, std::span<const IndexRange> columns) {
  return linear.is_integer() && linear.permutation() == nullptr &&
         RankRows::AreWholeGroups(columns);
}

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

// The columns of each product's outputs by rank.
struct RankColumns {
  std::vector<IndexRange> attended, hidden, dense_inner, shared_inner, gate, vocabulary;
  std::vector<IndexRange> experts;  // of the routed experts' sum: all of them rank 0's

  RankColumns(const std::vector<RankShare>& shares, int hidden_size) {
    for (const RankShare& share : shares) {
      attended.push_back(share.attended);
      hidden.push_back(share.hidden);
      dense_inner.push_back(share.dense_inner);
      shared_inner.push_back(share.shared_inner);
      gate.push_back(share.gate);
      vocabulary.push_back(share.vocabulary);
      experts.push_back({0, share.rank == 0 ? hidden_size : 0});
    }
  }
};

// Rows of a feed-forward between its gate and its down projection, quantized.
struct InnerRows {
  explicit InnerRows(kernels::ActivationBits bits) : whole(bits), own(bits) {}
  QuantizedRowsBuffer whole;
  QuantizedRowsBuffer own;  // this rank's columns
};

struct Decoder::Impl {
  Impl(const ModelConfig& model_config, const DecoderWeights& decoder_weights,
       const KvCache& kv_cache, const DecoderRanks& ranks, ExpertLayer* expert_layer,
       ThreadPool& thread_pool, const DecoderOptions& decoder_options)
      : config(model_config),
        weights(decoder_weights),
        cache(kv_cache),
        group(ranks.group),
        experts(expert_layer),
        pool(thread_pool),
        options(decoder_options),
        share(ranks.shares[group == nullptr ? 0 : static_cast<size_t>(group->rank())]),
        columns(ranks.shares, config.hidden_size),
        hidden_size(config.hidden_size),
        vocab_size(columns.vocabulary.back().end()),
        attended_size(columns.attended.back().end()),
        shares(ranks.shares),
        attention_ranks(JoinRanks()),
        attention(MakeAttention({config, weights, share, kv_cache, pool, options.max_batched_tokens,
                                 options.max_model_len, options.timings,
                                 attention_ranks ? &*attention_ranks : nullptr,
                                 options.activation_bits})),
        rows({options.max_batched_tokens, options.max_model_len, cache.block_size(),
              weights.embedding.n}),
        residual(Reserve(hidden_size)),
        normed(Reserve(hidden_size)),
        attended(Reserve(attended_size)),
        delta(Reserve(hidden_size)),
        shared_out(Reserve(hidden_size)),
        wide(Reserve(2 * std::max(share.dense_inner.count, share.shared_inner.count))),
        gate_logits(Reserve(std::max(1, config.num_experts))),
        route_weights(Reserve(std::max(1, config.experts_per_token))),
        logits(size_t(options.max_logit_rows) * vocab_size),
        normed_quantized(options.activation_bits),
        attended_quantized(options.activation_bits),
        own_attended_quantized(options.activation_bits),
        dense_inner(options.activation_bits),
        shared_inner(options.activation_bits) {
    if (group != nullptr) {
      own_attended.emplace(Reserve(share.attended.count));
      own_hidden.emplace(Reserve(share.hidden.count));
      own_gate.emplace(Reserve(std::max(1, share.gate.count)));
      own_logits.emplace(size_t(options.max_logit_rows) * share.vocabulary.count);
      inner.emplace(Reserve(std::max(config.intermediate_size, config.shared_intermediate_size())));
    }
    SHEAF_CHECK(weights.layers.size() == size_t(config.num_layers),
                "weights were loaded for this config");
    gates.resize(config.num_layers);
    for (int layer = config.num_dense_layers; layer < config.num_layers; ++layer) {
      gates[layer].storage = Linear::Storage::kDense;
      gates[layer].dense = weights.layers[layer].gate;
    }
    shared_experts.resize(config.num_layers);
    const bool of_one_width = config.shared_intermediate_size() == config.moe_intermediate_size;
    for (int layer = config.num_dense_layers; layer < config.num_layers; ++layer) {
      if (group != nullptr || config.num_shared_experts == 0 || !of_one_width) break;
      const FeedForwardWeights& shared = weights.layers[layer].feed_forward;
      kernels::ExpertWeights expert{shared.gate.view(), shared.up.view(), shared.down.view()};
      if (kernels::RunsWithOthers(expert)) {
        shared_experts[layer] = std::make_unique<const kernels::ExpertWeights>(std::move(expert));
      }
    }
  }

  std::optional<AttentionRanks> JoinRanks() {
    if (group == nullptr) return std::nullopt;
    rank_rows.emplace(*group, pool);
    return AttentionRanks{*group, *rank_rows, shares};
  }

  size_t Reserve(int floats_per_row) const {
    return size_t(options.max_batched_tokens) * floats_per_row;
  }

  absl::Status Forward(const StepBatch& batch,
                       const std::function<void(const LogitRows&)>& on_logits,
                       StepWatch* step_watch);
  absl::Status LookUp(bool has_delta, bool has_shared);
  void MoveTogether(std::span<const int> kept, const Scratch& buffer) const;
  absl::Status Embed(const StepBatch& batch);
  void NormRows(const float* norm_weight, bool add_delta, bool add_shared);
  absl::Status Attend(int layer);
  void RunInner(const FeedForwardWeights& mlp, QuantizedRowsBuffer* quantized);
  void RunDown(const FeedForwardWeights& mlp, const float* inner_rows, int width,
               const QuantizedRowsBuffer& quantized, float* out);
  absl::Status PutInnerTogether(const FeedForwardWeights& mlp,
                                const std::vector<IndexRange>& inner_columns, int width,
                                InnerRows& inner_rows, const RankRows::Piece* beside);
  absl::Status RunDenseMlp(const FeedForwardWeights& mlp);
  absl::Status PutTogether(std::span<const RankRows::Piece> pieces,
                           std::span<const RankRows::GroupsPiece> groups = {});
  absl::Status RunExperts(StepId step, int layer, StepLookout& lookout, bool& left_shared);
  absl::Status RunLmHead(const std::function<void(const LogitRows&)>& on_logits, bool add_shared,
                         StepLookout& lookout);

  const ModelConfig& config;
  const DecoderWeights& weights;
  const KvCache& cache;
  RankGroup* const group;      // null: a single rank
  ExpertLayer* const experts;  // rank 0's
  ThreadPool& pool;
  const DecoderOptions options;
  const RankShare share;
  const RankColumns columns;
  const int hidden_size;
  const int vocab_size;
  const int attended_size;  // of all heads
  const std::vector<RankShare> shares;
  std::optional<RankRows> rank_rows;  // of several ranks
  const std::optional<AttentionRanks> attention_ranks;
  const std::unique_ptr<Attention> attention;
  std::vector<Linear> gates;  // by layer
  // By layer: the shared expert where the expert layer may take it, else null.
  std::vector<std::unique_ptr<const kernels::ExpertWeights>> shared_experts;

  // The step in flight; row r of every buffer belongs to rows[r].
  StepRows rows;
  std::vector<int32_t> route_ids;
  StepWatch* watch = nullptr;
  int num_sequences = 0;
  int num_dropped = 0;  // sequences

  Scratch residual;       // [rows][hidden]
  Scratch normed;         // [rows][hidden]
  Scratch attended;       // [rows][attended_size]
  Scratch delta;          // [rows][hidden] what the last block adds to the residual
  Scratch shared_out;     // [rows][hidden] the shared expert's part of it
  Scratch wide;           // [rows][gate], [rows][up]
  Scratch gate_logits;    // [rows][num_experts]
  Scratch route_weights;  // [rows][top_k]
  Scratch logits;         // [max_logit_rows][vocab]
  // Of several ranks: what this one makes, before it is put together.
  std::optional<Scratch> own_attended;  // [rows][own columns]
  std::optional<Scratch> own_hidden;
  std::optional<Scratch> own_gate;
  std::optional<Scratch> own_logits;
  std::optional<Scratch> inner;  // [rows][inner width], put together
  QuantizedRowsBuffer normed_quantized;
  QuantizedRowsBuffer attended_quantized;
  QuantizedRowsBuffer own_attended_quantized;
  InnerRows dense_inner;   // one for each width: a buffer that keeps its shape is not cleared again
  InnerRows shared_inner;
};

// Looks. When more sequences are over than before, their rows go: everything that a half of a layer
// takes over from the last one is moved together. At the beginning of such a half.
absl::Status Decoder::Impl::LookUp(bool has_delta, bool has_shared) {
  if (watch == nullptr) return absl::OkStatus();
  watch->Look();
  if (group != nullptr) {
    // All ranks have the same rows: those of what is over stay to the end of the step.
    return watch->num_over() == num_sequences ? AllAreOver() : absl::OkStatus();
  }
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

absl::Status Decoder::Impl::Embed(const StepBatch& batch) {
  const int width = share.hidden.count;
  float* const out = group == nullptr ? residual.data() : own_hidden->data();
  {
    StageTimer timer(options.timings, &StepTimings::embedding);
    pool.ParallelFor(rows.size(), CostOfElements(width), [&](int64_t r, int) {
      const StepSequence& sequence = batch.sequences[rows[r].sequence];
      const TokenId token = sequence.tokens[rows[r].position - sequence.first_position];
      kernels::WidenToFloat(weights.embedding.row(token), weights.embedding.format, width,
                            out + r * width);
    });
  }
  if (group == nullptr) return absl::OkStatus();
  const RankRows::Piece piece{out, columns.hidden, hidden_size, residual.data()};
  return PutTogether({&piece, 1});
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

// What the ranks have made apart, at every rank. Of several ranks.
absl::Status Decoder::Impl::PutTogether(std::span<const RankRows::Piece> pieces,
                                        std::span<const RankRows::GroupsPiece> groups) {
  StageTimer timer(options.timings, &StepTimings::gather);
  return rank_rows->PutTogether(rows.size(), pieces, groups);
}

// delta = o_proj(attention(normed)).
absl::Status Decoder::Impl::Attend(int layer) {
  const int num_rows = rows.size();
  const Linear& output = weights.layers[layer].attention_out.view();
  float* const own = group == nullptr ? attended.data() : own_attended->data();
  SHEAF_RETURN_IF_ERROR(attention->Run(
      layer, rows.all(), RowsOf(normed.data(), normed_quantized, hidden_size, 0, num_rows), own));
  const bool as_groups = group != nullptr && ReadsWholeGroups(output, columns.attended);
  if (as_groups) {
    kernels::QuantizeRows(pool, own, num_rows, share.attended.count, own_attended_quantized);
    attended_quantized.Resize(num_rows, attended_size);
    const RankRows::GroupsPiece piece{&own_attended_quantized, columns.attended, attended_size,
                                      &attended_quantized};
    SHEAF_RETURN_IF_ERROR(PutTogether({}, {&piece, 1}));
  } else if (group != nullptr) {
    const RankRows::Piece piece{own, columns.attended, attended_size, attended.data()};
    SHEAF_RETURN_IF_ERROR(PutTogether({&piece, 1}));
  }
  float* const out = group == nullptr ? delta.data() : own_hidden->data();
  {
    StageTimer timer(options.timings, &StepTimings::output);
    if (!as_groups)
      kernels::QuantizeRows(pool, attended.data(), num_rows, attended_size, attended_quantized);
    const Activations x = RowsOf(as_groups ? nullptr : attended.data(), attended_quantized,
                                 attended_size, 0, num_rows);
    const LinearCall call{&output, &x, out, share.hidden.count};
    kernels::RunLinears(pool, {&call, 1});
  }
  if (group == nullptr) return absl::OkStatus();
  const RankRows::Piece piece{out, columns.hidden, hidden_size, delta.data()};
  return PutTogether({&piece, 1});
}

// wide = silu(gate x) * up x, x = normed; also into `quantized`, where the rows are whole.
void Decoder::Impl::RunInner(const FeedForwardWeights& mlp, QuantizedRowsBuffer* quantized) {
  StageTimer timer(options.timings, &StepTimings::feed_forward);
  const int num_rows = rows.size();
  const int width = mlp.gate.view().n();
  float* gate = wide.data();
  float* up = gate + size_t(num_rows) * width;
  const Activations x = RowsOf(normed.data(), normed_quantized, hidden_size, 0, num_rows);
  const std::array<LinearCall, 2> calls = {LinearCall{&mlp.gate.view(), &x, gate, width},
                                           LinearCall{&mlp.up.view(), &x, up, width}};
  kernels::RunLinears(pool, calls);
  if (quantized != nullptr) quantized->Resize(num_rows, width);
  pool.ParallelFor(num_rows, CostOfElements(3 * int64_t{width}), [&](int64_t r, int) {
    float* const row = gate + r * width;
    kernels::SiluMul(row, up + r * width, width, row);
    if (quantized != nullptr) QuantizeInto(row, width, static_cast<int>(r), *quantized);
  });
}

// out = down(inner rows).
void Decoder::Impl::RunDown(const FeedForwardWeights& mlp, const float* inner_rows, int width,
                            const QuantizedRowsBuffer& quantized, float* out) {
  StageTimer timer(options.timings, &StepTimings::feed_forward);
  const Activations activated = RowsOf(inner_rows, quantized, width, 0, rows.size());
  const LinearCall down{&mlp.down.view(), &activated, out, share.hidden.count};
  kernels::RunLinears(pool, {&down, 1});
}

// The inner rows at every rank, ready for RunDown(inner), in one gather with what lies `beside`. Of
// several ranks.
absl::Status Decoder::Impl::PutInnerTogether(const FeedForwardWeights& mlp,
                                             const std::vector<IndexRange>& inner_columns,
                                             int width, InnerRows& inner_rows,
                                             const RankRows::Piece* beside) {
  const int num_rows = rows.size();
  std::vector<RankRows::Piece> pieces;
  if (beside != nullptr) pieces.push_back(*beside);
  if (ReadsWholeGroups(mlp.down.view(), inner_columns)) {
    RunInner(mlp, &inner_rows.own);
    inner_rows.whole.Resize(num_rows, width);
    const RankRows::GroupsPiece piece{&inner_rows.own, inner_columns, width, &inner_rows.whole};
    return PutTogether(pieces, {&piece, 1});
  }
  RunInner(mlp, nullptr);
  pieces.push_back({wide.data(), inner_columns, width, inner->data()});
  SHEAF_RETURN_IF_ERROR(PutTogether(pieces));
  kernels::QuantizeRows(pool, inner->data(), num_rows, width, inner_rows.whole);
  return absl::OkStatus();
}

// delta = the dense feed-forward of normed.
absl::Status Decoder::Impl::RunDenseMlp(const FeedForwardWeights& mlp) {
  const int width = config.intermediate_size;
  if (group == nullptr) {
    RunInner(mlp, &dense_inner.whole);
    RunDown(mlp, wide.data(), width, dense_inner.whole, delta.data());
    return absl::OkStatus();
  }
  SHEAF_RETURN_IF_ERROR(PutInnerTogether(mlp, columns.dense_inner, width, dense_inner, nullptr));
  RunDown(mlp, inner->data(), width, dense_inner.whole, own_hidden->data());
  const RankRows::Piece piece{own_hidden->data(), columns.hidden, hidden_size, delta.data()};
  return PutTogether({&piece, 1});
}

// delta = the routed experts' sum; shared_out = the shared expert's output, or it is in the sum
// already.
absl::Status Decoder::Impl::RunExperts(StepId step, int layer, StepLookout& lookout,
                                       bool& left_shared) {
  const LayerWeights& w = weights.layers[layer];
  const int num_rows = rows.size();
  const int top_k = config.experts_per_token;
  const bool has_shared = config.num_shared_experts > 0;
  const int shared_width = config.shared_intermediate_size();
  const Activations x = RowsOf(normed.data(), normed_quantized, hidden_size, 0, num_rows);
  {
    StageTimer timer(options.timings, &StepTimings::gate);
    float* const out = group == nullptr ? gate_logits.data() : own_gate->data();
    const LinearCall call{&gates[layer], &x, out, share.gate.count};
    kernels::RunLinears(pool, {&call, 1});
  }
  if (group != nullptr) {
    // The shared expert's inner rows go with the gate's, so that there is one gather for both.
    const RankRows::Piece gate{own_gate->data(), columns.gate, config.num_experts,
                               gate_logits.data()};
    SHEAF_RETURN_IF_ERROR(has_shared ? PutInnerTogether(w.feed_forward, columns.shared_inner,
                                                        shared_width, shared_inner, &gate)
                                     : PutTogether({&gate, 1}));
  }
  if (experts != nullptr) {
    StageTimer timer(options.timings, &StepTimings::gate);
    const kernels::ExpertGateParams params{
        config.num_experts,
        top_k,
        config.num_groups,
        config.topk_groups,
        config.normalize_topk,
        config.routed_scaling,
        w.correction_bias.empty() ? nullptr : w.correction_bias.data()};
    route_ids.resize(size_t(num_rows) * top_k);
    pool.ParallelFor(
        num_rows, CostOfElements(8 * int64_t{config.num_experts}), [&](int64_t r, int) {
          kernels::SelectExperts(gate_logits.data() + r * config.num_experts, 1, params,
                                 route_ids.data() + r * top_k, route_weights.data() + r * top_k);
        });
  }
  if (pool.cut()) return AllAreOver();
  lookout.KeepWhole(true);
  if (experts != nullptr) {
    StageTimer timer(options.timings, &StepTimings::experts);
    SHEAF_RETURN_IF_ERROR(experts->Begin(
        {step, LayerId(layer), x.quantized, top_k, route_ids.data(), route_weights.data()}));
  }
  left_shared = has_shared && !(shared_experts[layer] != nullptr &&
                                experts->TakeShared(*shared_experts[layer]));
  if (left_shared && group == nullptr) {
    RunInner(w.feed_forward, &shared_inner.whole);
    RunDown(w.feed_forward, wide.data(), shared_width, shared_inner.whole, shared_out.data());
  } else if (left_shared) {
    RunDown(w.feed_forward, inner->data(), shared_width, shared_inner.whole, own_hidden->data());
  }
  if (experts != nullptr) {
    StageTimer timer(options.timings, &StepTimings::experts);
    // On a machine of few cores a spinning thread would keep the awaited worker from running.
    if (options.experts_share_cores) pool.Park();
    SHEAF_RETURN_IF_ERROR(experts->Finish(delta.data()));
  }
  lookout.KeepWhole(false);
  if (group == nullptr) return absl::OkStatus();
  const std::array<RankRows::Piece, 2> pieces = {
      {{delta.data(), columns.experts, hidden_size, delta.data()},
       {own_hidden->data(), columns.hidden, hidden_size, shared_out.data()}}};
  return PutTogether(std::span(pieces).first(has_shared ? 2 : 1));
}

// The final norm and the logits of the rows that want them; the others end here.
absl::Status Decoder::Impl::RunLmHead(const std::function<void(const LogitRows&)>& on_logits,
                                      bool add_shared, StepLookout& lookout) {
  const std::span<const int> logit_rows = rows.logit_rows();
  if (logit_rows.empty()) return absl::OkStatus();
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
      float* const out = group == nullptr ? logits.data() : own_logits->data();
      const LinearCall call{&weights.lm_head.view(), &x, out, share.vocabulary.count};
      kernels::RunLinears(pool, {&call, 1});
    }
    if (group != nullptr) {
      StageTimer timer(options.timings, &StepTimings::gather);
      const RankRows::Piece piece{own_logits->data(), columns.vocabulary, vocab_size,
                                  logits.data()};
      SHEAF_RETURN_IF_ERROR(rank_rows->PutTogether(count, {&piece, 1}));
      if (group->rank() != 0) continue;
    }
    if (pool.cut()) return AllAreOver();
    lookout.Pause();
    on_logits({rows.logit_sources().subspan(first, count), logits.data(), vocab_size});
    lookout.Resume();
  }
  return absl::OkStatus();
}

Decoder::Decoder(const ModelConfig& config, const DecoderWeights& weights, const KvCache& cache,
                 ExpertLayer& experts, ThreadPool& pool, const DecoderOptions& options)
    : Decoder(config, weights, cache, {{WholeModel(config)}, nullptr}, &experts, pool, options) {}

Decoder::Decoder(const ModelConfig& config, const DecoderWeights& weights, const KvCache& cache,
                 const DecoderRanks& ranks, ExpertLayer* experts, ThreadPool& pool,
                 const DecoderOptions& options)
    : impl_(std::make_unique<Impl>(config, weights, cache, ranks, experts, pool, options)) {}

Decoder::~Decoder() = default;

int Decoder::vocab_size() const { return impl_->vocab_size; }
const DecoderOptions& Decoder::options() const { return impl_->options; }

absl::Status Decoder::Forward(const StepBatch& batch,
                              const std::function<void(const LogitRows&)>& on_logits,
                              StepWatch* watch) {
  RankGroup* const group = impl_->group;
  if (group == nullptr) return impl_->Forward(batch, on_logits, watch);
  absl::Status status;
  if (group->rank() == 0) {
    int rows = 0;
    for (const StepSequence& sequence : batch.sequences)
      rows += static_cast<int>(sequence.tokens.size());
    if (rows == 0) return absl::OkStatus();
    status =
        group->Begin(batch.step, rows, EncodeStepPlan(batch.sequences, impl_->cache.block_size()));
  }
  if (status.ok()) status = impl_->Forward(batch, on_logits, watch);
  if (!status.ok()) group->Abort(status);
  return status;
}

absl::Status Decoder::Impl::Forward(const StepBatch& batch,
                                    const std::function<void(const LogitRows&)>& on_logits,
                                    StepWatch* step_watch) {
  SHEAF_RETURN_IF_ERROR(rows.Set(batch));
  if (rows.size() == 0) return absl::OkStatus();
  StageTimer timer(options.timings, &StepTimings::total);
  if (options.timings != nullptr) ++options.timings->steps;
  watch = step_watch;
  num_sequences = static_cast<int>(batch.sequences.size());
  num_dropped = 0;
  StepLookout lookout(pool, watch, batch.sequences.size());

  SHEAF_RETURN_IF_ERROR(Embed(batch));
  bool add_shared = false;  // whether the previous layer left a shared expert's output
  for (int layer = 0; layer < config.num_layers; ++layer) {
    const LayerWeights& w = weights.layers[layer];
    SHEAF_RETURN_IF_ERROR(LookUp(/*has_delta=*/layer > 0, add_shared));
    NormRows(w.input_norm.data(), /*add_delta=*/layer > 0, add_shared);
    SHEAF_RETURN_IF_ERROR(Attend(layer));
    SHEAF_RETURN_IF_ERROR(LookUp(/*has_delta=*/true, /*has_shared=*/false));
    NormRows(w.post_attention_norm.data(), /*add_delta=*/true, /*add_shared=*/false);
    if (config.is_moe_layer(layer)) {
      SHEAF_RETURN_IF_ERROR(RunExperts(batch.step, layer, lookout, add_shared));
    } else {
      SHEAF_RETURN_IF_ERROR(RunDenseMlp(w.feed_forward));
    }
  }
  SHEAF_RETURN_IF_ERROR(LookUp(/*has_delta=*/true, add_shared));
  return RunLmHead(on_logits, add_shared, lookout);
}

}  // namespace sheaf
