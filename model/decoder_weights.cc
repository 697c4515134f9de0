#include "model/decoder_weights.h"

#include <utility>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "model/formats/tensor_checks.h"
#include "model/load_tracker.h"
#include "model/model_layout.h"

namespace sheaf {
namespace {

struct LinearJob {
  LinearPlan plan;
  LinearSlice slice;
  LoadedLinear* out = nullptr;
};

kernels::FloatFormat ToFloatFormat(TensorDtype dtype) {
  switch (dtype) {
    case TensorDtype::kBF16:
      return kernels::FloatFormat::kBF16;
    case TensorDtype::kF16:
      return kernels::FloatFormat::kF16;
    default:
      return kernels::FloatFormat::kF32;
  }
}

absl::StatusOr<kernels::DenseMatrix> MatrixView(const Checkpoint& checkpoint,
                                                const std::string& name, int n, int k) {
  SHEAF_ASSIGN_OR_RETURN(const TensorInfo* const tensor, RequireTensor(checkpoint, name));
  SHEAF_RETURN_IF_ERROR(CheckDtype(*tensor, kFloatDtypes));
  SHEAF_RETURN_IF_ERROR(CheckShape(*tensor, {n, k}));
  checkpoint.WillNeed(*tensor);
  return kernels::DenseMatrix{n, k, ToFloatFormat(tensor->dtype), checkpoint.Bytes(*tensor).data()};
}

size_t MatrixBytes(const kernels::DenseMatrix& matrix) {
  return static_cast<size_t>(matrix.n) * matrix.k * kernels::FloatBytes(matrix.format);
}

// Collects the Linears of the model, then loads them in parallel.
class DecoderLoader {
 public:
  DecoderLoader(const Checkpoint& checkpoint, const ModelConfig& config, HeadRange heads,
                DecoderWeights& weights)
      : checkpoint_(checkpoint), config_(config), heads_(heads), weights_(weights) {}

  absl::Status Plan() {
    weights_.layers.resize(static_cast<size_t>(config_.num_layers));
    SHEAF_ASSIGN_OR_RETURN(weights_.embedding, MatrixView(checkpoint_, kEmbeddingName,
                                                          config_.vocab_size, config_.hidden_size));
    SHEAF_ASSIGN_OR_RETURN(weights_.final_norm,
                           LoadFloats(checkpoint_, kFinalNormName, config_.hidden_size));
    for (int layer = 0; layer < config_.num_layers; ++layer)
      SHEAF_RETURN_IF_ERROR(PlanLayer(layer));
    // A tied head is the embedding itself; some writers store it again all the same.
    NamedLinear head = LmHead(config_);
    if (config_.tie_word_embeddings) head.prefix = "model.embed_tokens";
    return Add(head, {}, weights_.lm_head);
  }

  absl::Status Load(ThreadPool& pool, const LoadProgress& progress) {
    size_t arena_bytes = 0, total_bytes = 0;
    for (const LinearJob& job : jobs_) {
      arena_bytes += MaxArenaBytes(job.plan, job.slice);
      total_bytes += job.plan.file_bytes();
    }
    SHEAF_ASSIGN_OR_RETURN(const std::shared_ptr<PackedArena> arena,
                           PackedArena::Reserve(arena_bytes));
    LoadTracker tracker(total_bytes, progress);
    pool.ParallelFor(static_cast<int64_t>(jobs_.size()), [&](int64_t item, int) {
      if (tracker.failed()) return;
      const LinearJob& job = jobs_[item];
      job.plan.ForEachTensor([&](const TensorInfo& tensor) { checkpoint_.WillNeed(tensor); });
      auto loaded = LoadPlannedLinear(checkpoint_, job.plan, job.slice, arena);
      if (!loaded.ok()) {
        tracker.Fail(static_cast<size_t>(item), loaded.status());
        return;
      }
      *job.out = *std::move(loaded);
      tracker.Done(job.plan.file_bytes());
    });
    return tracker.status();
  }

 private:
  absl::Status Add(const NamedLinear& linear, const LinearSlice& slice, LoadedLinear& out) {
    LinearJob job;
    SHEAF_ASSIGN_OR_RETURN(
        job.plan, PlanLinear(checkpoint_, config_.quantization, linear.prefix, linear.n, linear.k));
    job.slice = slice;
    job.out = &out;
    jobs_.push_back(std::move(job));
    return absl::OkStatus();
  }

  absl::Status PlanMlp(const std::string& prefix, int width, ModelPart part,
                       FeedForwardWeights& out) {
    const auto linears = MlpLinears(prefix, config_.hidden_size, width, part);
    SHEAF_RETURN_IF_ERROR(Add(linears[0], {}, out.gate));
    SHEAF_RETURN_IF_ERROR(Add(linears[1], {}, out.up));
    return Add(linears[2], {}, out.down);
  }

  absl::Status PlanAttention(int layer, LayerWeights& out) {
    const auto linears = AttentionLinears(config_, layer);
    const int ratio = config_.num_heads / config_.num_kv_heads;
    const int first_kv = heads_.first_kv_head * config_.head_dim,
              num_kv = heads_.num_kv_heads * config_.head_dim;
    const LinearSlice kv_rows = {.first_row = first_kv, .num_rows = num_kv};
    const LinearSlice q_rows = {.first_row = first_kv * ratio, .num_rows = num_kv * ratio};
    const LinearSlice o_columns = {.first_column = first_kv * ratio, .num_columns = num_kv * ratio};
    SHEAF_RETURN_IF_ERROR(Add(linears[0], q_rows, out.q));
    SHEAF_RETURN_IF_ERROR(Add(linears[1], kv_rows, out.k));
    SHEAF_RETURN_IF_ERROR(Add(linears[2], kv_rows, out.v));
    for (size_t job = jobs_.size() - 3; job < jobs_.size(); ++job) {
      if (!config_.attention_bias || jobs_[job].plan.bias != nullptr) continue;
      return RequireTensor(checkpoint_, jobs_[job].plan.prefix + ".bias").status();
    }
    SHEAF_RETURN_IF_ERROR(Add(linears[3], o_columns, out.o));
    // Ranks add their parts of o: one of them brings the bias.
    if (heads_.first_kv_head != 0) jobs_.back().plan.bias = nullptr;
    return absl::OkStatus();
  }

  absl::Status PlanLayer(int layer) {
    LayerWeights& out = weights_.layers[static_cast<size_t>(layer)];
    const std::string prefix = LayerPrefix(layer);
    const auto floats = [&](const std::string& name, int count,
                            std::vector<float>& values) -> absl::Status {
      SHEAF_ASSIGN_OR_RETURN(values, LoadFloats(checkpoint_, prefix + name, count));
      return absl::OkStatus();
    };
    SHEAF_RETURN_IF_ERROR(floats(".input_layernorm.weight", config_.hidden_size, out.input_norm));
    SHEAF_RETURN_IF_ERROR(
        floats(".post_attention_layernorm.weight", config_.hidden_size, out.post_attention_norm));
    if (config_.qk_norm) {
      SHEAF_RETURN_IF_ERROR(floats(".self_attn.q_norm.weight", config_.head_dim, out.q_norm));
      SHEAF_RETURN_IF_ERROR(floats(".self_attn.k_norm.weight", config_.head_dim, out.k_norm));
    }
    SHEAF_RETURN_IF_ERROR(PlanAttention(layer, out));
    if (!config_.is_moe_layer(layer)) {
      return PlanMlp(prefix + ".mlp", config_.intermediate_size, ModelPart::kDenseMlp,
                     out.feed_forward);
    }
    SHEAF_ASSIGN_OR_RETURN(out.gate, MatrixView(checkpoint_, prefix + ".mlp.gate.weight",
                                                config_.num_experts, config_.hidden_size));
    SHEAF_RETURN_IF_ERROR(
        floats(".mlp.gate.e_score_correction_bias", config_.num_experts, out.correction_bias));
    if (config_.num_shared_experts == 0) return absl::OkStatus();
    return PlanMlp(prefix + ".mlp.shared_experts", config_.shared_intermediate_size(),
                   ModelPart::kSharedExperts, out.feed_forward);
  }

  const Checkpoint& checkpoint_;
  const ModelConfig& config_;
  const HeadRange heads_;
  DecoderWeights& weights_;
  std::vector<LinearJob> jobs_;
};

size_t LinearBytes(const LoadedLinear& linear, const kernels::DenseMatrix& embedding) {
  const kernels::Linear& view = linear.view();
  const bool copied = view.storage == kernels::Linear::Storage::kDense &&
                      linear.owned_bytes() >= MatrixBytes(view.dense);
  const bool mapped = view.storage == kernels::Linear::Storage::kDense && !copied &&
                      view.dense.data != embedding.data;
  return linear.owned_bytes() + (mapped ? MatrixBytes(view.dense) : 0);
}

}  // namespace

size_t DecoderWeights::resident_bytes() const {
  size_t bytes =
      MatrixBytes(embedding) + final_norm.size() * sizeof(float) + LinearBytes(lm_head, embedding);
  for (const LayerWeights& layer : layers) {
    bytes +=
        sizeof(float) * (layer.input_norm.size() + layer.post_attention_norm.size() +
                         layer.q_norm.size() + layer.k_norm.size() + layer.correction_bias.size());
    bytes += MatrixBytes(layer.gate);
    for (const LoadedLinear* linear :
         {&layer.q, &layer.k, &layer.v, &layer.o, &layer.feed_forward.gate, &layer.feed_forward.up,
          &layer.feed_forward.down}) {
      bytes += LinearBytes(*linear, embedding);
    }
  }
  return bytes;
}

absl::StatusOr<std::unique_ptr<DecoderWeights>> DecoderWeights::Load(
    std::shared_ptr<const Checkpoint> checkpoint, const ModelConfig& config, HeadRange heads,
    ThreadPool& pool, const LoadProgress& progress) {
  if (heads.first_kv_head < 0 || heads.num_kv_heads < 1 ||
      heads.num_kv_heads > config.num_kv_heads - heads.first_kv_head) {
    return absl::InvalidArgumentError(absl::StrFormat("KV heads %d + %d: wanted a range of 0..%d",
                                                      heads.first_kv_head, heads.num_kv_heads,
                                                      config.num_kv_heads - 1));
  }
  SHEAF_RETURN_IF_ERROR(CheckExpertCounts(*checkpoint, config));
  auto weights = std::make_unique<DecoderWeights>();
  weights->checkpoint = checkpoint;
  DecoderLoader loader(*checkpoint, config, heads, *weights);
  SHEAF_RETURN_IF_ERROR(loader.Plan());
  SHEAF_RETURN_IF_ERROR(loader.Load(pool, progress));
  return weights;
}

}  // namespace sheaf
