#include "model/inspect/inspect.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_format.h"
#include "base/status.h"
#include "model/absent_tensors.h"
#include "model/attention/absorbed_kv.h"
#include "model/attention/attention_tensors.h"
#include "model/attention/kv_scales.h"
#include "model/inspect/config_disagreements.h"
#include "model/quantization/zero_point_survey.h"

namespace sheaf {
namespace {

constexpr int kMaxMissingExperts = 64;  // of a layer, after which the others are not looked for

std::string LowerCase(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

// Accumulates tensors into groups.
class Grouping {
 public:
  // new_tensors: those that no Linear before it has (experts share fused tensors).
  void Add(ModelPart part, const LinearPlan& plan, bool symmetric, uint64_t new_tensors) {
    TensorGroup& group =
        plan.format == WeightFormat::kFp8 ? Fp8(part, plan)
        : plan.quantized() ? Entry(part, std::string(WeightFormatName(plan.format)), plan.bits,
                                   plan.group_size, 0, symmetric)
                           : Plain(part, plan.codes->dtype);
    group.modules += 1;
    group.tensors += new_tensors;
    group.bytes += plan.file_bytes();
  }

  void Add(ModelPart part, const TensorInfo& tensor) {
    TensorGroup& group = Plain(part, tensor.dtype);
    group.modules += 1;
    group.tensors += 1;
    group.bytes += tensor.bytes;
  }

  std::vector<TensorGroup> Sorted() const {
    std::vector<TensorGroup> all;
    for (const auto& [key, group] : groups_) all.push_back(group);
    std::stable_sort(all.begin(), all.end(), [](const TensorGroup& a, const TensorGroup& b) {
      return std::tuple(a.part, b.bytes) < std::tuple(b.part, a.bytes);
    });
    return all;
  }

 private:
  using Key = std::tuple<ModelPart, std::string, int, int, int, bool>;

  // A block that spans a small matrix is as large as those of the others.
  TensorGroup& Fp8(ModelPart part, const LinearPlan& plan) {
    const Fp8Scales& fp8 = plan.fp8;
    const bool all_rows = fp8.first_row == 0 && fp8.block_rows >= plan.n;
    const bool all_columns = fp8.stride == 1;
    int rows = all_rows ? -1 : fp8.block_rows, columns = all_columns ? -1 : fp8.block_columns;
    if (rows > 1 && all_columns) columns = rows;
    if (all_rows && !all_columns) rows = columns;
    return Entry(part, std::string(WeightFormatName(plan.format)), 8, columns, rows, true);
  }

  TensorGroup& Plain(ModelPart part, TensorDtype dtype) {
    return Entry(part, LowerCase(DtypeName(dtype)), DtypeBits(dtype), 0, 0, true);
  }

  TensorGroup& Entry(ModelPart part, const std::string& format, int bits, int group_size,
                     int block_rows, bool symmetric) {
    TensorGroup& group = groups_[Key(part, format, bits, group_size, block_rows, symmetric)];
    group.part = part;
    group.format = format;
    group.bits = bits;
    group.group_size = group_size;
    group.block_rows = block_rows;
    group.symmetric = symmetric;
    return group;
  }

  std::map<Key, TensorGroup> groups_;
};

// Walks the model that the config describes over the tensors that are there.
class Inspection {
 public:
  Inspection(const Checkpoint& checkpoint, const ModelConfig& config, LmHeadDtype lm_head,
             InspectReport& report)
      : checkpoint_(checkpoint),
        config_(config),
        lm_head_(lm_head),
        report_(report),
        facts_(config),
        zero_points_(checkpoint) {}

  void Run(int num_workers) {
    const auto absent = JudgeAbsentTensors(checkpoint_, config_);
    Refuse(absent.status());
    Refuse(CheckExpertCounts(checkpoint_, config_));
    for (const NamedPlain& plain : PlainTensors(config_)) VisitPlain(plain);
    for (int layer = 0; layer < config_.num_layers; ++layer) VisitLayer(layer);
    VisitHead();
    VisitRest();
    report_.groups = grouping_.Sorted();
    report_.disagreements = checkpoint_.remarks();
    for (const std::vector<std::string>& more :
         {absent.value_or(std::vector<std::string>()), facts_.Disagreements()}) {
      report_.disagreements.insert(report_.disagreements.end(), more.begin(), more.end());
    }
    if (report_.refusal.empty()) Divide(num_workers);
  }

 private:
  // The first reason is the report's.
  void Refuse(const absl::Status& status) {
    if (!status.ok() && report_.refusal.empty()) report_.refusal = std::string(status.message());
  }

  void VisitPlain(const NamedPlain& plain) {
    const TensorInfo* const tensor = checkpoint_.Find(plain.name);
    if (tensor == nullptr) {
      Refuse(absl::NotFoundError(
          absl::StrFormat("%s: missing tensor %s", checkpoint_.directory(), plain.name)));
      return;
    }
    if (tensor->shape != plain.shape) {
      Refuse(absl::InvalidArgumentError(
          absl::StrFormat("%s: tensor %s: wanted shape %s, got %s", tensor->file, tensor->name,
                          ShapeString(plain.shape), ShapeString(tensor->shape))));
    }
    if (tensor->dtype != TensorDtype::kBF16 && tensor->dtype != TensorDtype::kF16 &&
        tensor->dtype != TensorDtype::kF32) {
      Refuse(absl::InvalidArgumentError(
          absl::StrFormat("%s: tensor %s: wanted dtype BF16, F16 or F32, got %s", tensor->file,
                          tensor->name, DtypeName(tensor->dtype))));
    }
    visited_.insert(tensor);
    grouping_.Add(plain.part, *tensor);
    facts_.AddPlainTensor(*tensor);
    router_bytes_ += tensor->bytes;
  }

  // Returns the bytes, 0 if it could not be planned.
  uint64_t Visit(const absl::StatusOr<LinearPlan>& plan, ModelPart part) {
    Refuse(plan.status());
    if (!plan.ok()) return 0;
    const absl::StatusOr<bool> symmetric = zero_points_.IsSymmetric(*plan, part);
    Refuse(symmetric.status());
    uint64_t new_tensors = 0;
    plan->ForEachTensor(
        [&](const TensorInfo& tensor) { new_tensors += visited_.insert(&tensor).second ? 1 : 0; });
    grouping_.Add(part, *plan, symmetric.value_or(false), new_tensors);
    facts_.AddLinear(*plan, part);
    return plan->file_bytes();
  }

  uint64_t Visit(const NamedLinear& linear) {
    auto plan = PlanNamedLinear(checkpoint_, config_.quantization, linear);
    if (!plan.ok()) Failed(linear.prefix);
    const uint64_t bytes = Visit(plan, linear.part);
    if (!linear.absorbed || !plan.ok()) return bytes;
    const auto& shape = std::get<LatentShape>(config_.attention);
    if (zero_points_.IsSymmetric(*plan, linear.part).value_or(false)) {
      plan->zero_points = ZeroPoints::kSymmetric;
    }
    absorbed_bytes_ += AbsorbedKv::MemoryBytes(*plan, shape.nope_dim, shape.v_dim);
    return 0;
  }

  void VisitKvScales(int layer) {
    const bool grouped = std::holds_alternative<GroupedQueryShape>(config_.attention);
    for (const TensorInfo* tensor : KvScaleTensors(checkpoint_, layer)) {
      visited_.insert(tensor);
      grouping_.Add(ModelPart::kAttention, *tensor);
      router_bytes_ += tensor->bytes;
      facts_.AddKvScale(*tensor, grouped && IsUsableKvScale(*tensor));
    }
    if (grouped) Refuse(ReadKvScales(checkpoint_, layer).status());
  }

  void VisitLayer(int layer) {
    for (const NamedLinear& linear : AttentionLinears(config_, layer))
      router_bytes_ += Visit(linear);
    VisitKvScales(layer);
    const std::string mlp = LayerPrefix(layer) + ".mlp";
    const int hidden = config_.hidden_size;
    if (!config_.is_moe_layer(layer)) {
      for (const auto& linear :
           MlpLinears(mlp, hidden, config_.intermediate_size, ModelPart::kDenseMlp)) {
        router_bytes_ += Visit(linear);
      }
      return;
    }
    if (config_.num_shared_experts > 0) {
      const int width = config_.shared_intermediate_size();
      for (const auto& linear :
           MlpLinears(mlp + ".shared_experts", hidden, width, ModelPart::kSharedExperts)) {
        router_bytes_ += Visit(linear);
      }
    }
    expert_bytes_.resize(static_cast<size_t>(config_.num_experts));
    // A config may count millions of experts that no file has.
    int missing = 0;
    for (int expert = 0; expert < config_.num_experts && missing < kMaxMissingExperts; ++expert) {
      const auto plans = PlanExpert(checkpoint_, config_, layer, expert);
      Refuse(plans.status());
      if (!plans.ok()) {
        Failed(ExpertPrefix(layer, expert));
        Failed(mlp + ".experts");
        ++missing;
        continue;
      }
      for (const LinearPlan& plan : *plans)
        expert_bytes_[expert] += Visit(plan, ModelPart::kRoutedExperts);
    }
  }

  void VisitHead() {
    const absl::StatusOr<LinearPlan> plan = PlanLmHead(checkpoint_, config_, lm_head_);
    if (HeadIsEmbedding(checkpoint_, config_)) {
      Refuse(PlanLinear(checkpoint_, config_.quantization, "model.embed_tokens", config_.vocab_size,
                        config_.hidden_size)
                 .status());
      if (plan.ok() && plan->to_int8) router_bytes_ += LmHeadBytes(*plan);  // beside it
      return;
    }
    Visit(LmHead(config_));
    if (!plan.ok()) return;
    router_bytes_ += LmHeadBytes(*plan);
    if (std::string remark = LmHeadRemark(*plan, lm_head_); !remark.empty())
      report_.remarks.push_back(std::move(remark));
  }

  void Failed(const std::string& module) {
    failed_.insert(module);
    facts_.AddFailedLinear();
  }

  // Whether the tensor is of a Linear, or an expert, that could not be planned: what it is for is
  // not known.
  bool BelongsToFailed(std::string_view name) const {
    for (size_t dot = name.rfind('.'); !failed_.empty() && dot != std::string_view::npos;
         dot = name.rfind('.')) {
      name = name.substr(0, dot);
      if (failed_.contains(std::string(name))) return true;
    }
    return false;
  }

  // Tensors that the model has no use for.
  void VisitRest() {
    for (size_t shard = 0; shard < checkpoint_.num_shards(); ++shard) {
      for (const TensorInfo& tensor : checkpoint_.shard_tensors(shard)) {
        if (visited_.contains(&tensor)) continue;
        const ModelPart part = PartOf(tensor.name, config_);
        grouping_.Add(part, tensor);
        if (!BelongsToFailed(tensor.name)) facts_.AddUnusedTensor(tensor, part);
      }
    }
  }

  void Divide(int num_workers) {
    const auto share = [&](int first, int end) {
      uint64_t bytes = 0;
      for (int expert = first; expert < end; ++expert) bytes += expert_bytes_[expert];
      return bytes;
    };
    const int experts = config_.num_moe_layers() > 0 ? config_.num_experts : 0;
    if (num_workers <= 0) {
      report_.processes.push_back(
          {"router", 0, experts, router_bytes_ + share(0, experts), absorbed_bytes_});
      return;
    }
    report_.processes.push_back({"router", 0, 0, router_bytes_, absorbed_bytes_});
    for (int worker = 0; worker < num_workers; ++worker) {
      const int first = static_cast<int>(int64_t{experts} * worker / num_workers);
      const int end = static_cast<int>(int64_t{experts} * (worker + 1) / num_workers);
      report_.processes.push_back(
          {absl::StrFormat("worker %d", worker), first, end - first, share(first, end), 0});
    }
  }

  const Checkpoint& checkpoint_;
  const ModelConfig& config_;
  const LmHeadDtype lm_head_;
  InspectReport& report_;
  Grouping grouping_;
  ConfigDisagreements facts_;
  ZeroPointSurvey zero_points_;
  absl::flat_hash_set<const TensorInfo*> visited_;
  absl::flat_hash_set<std::string> failed_;  // modules
  uint64_t router_bytes_ = 0;
  uint64_t absorbed_bytes_ = 0;
  std::vector<uint64_t> expert_bytes_;
};

}  // namespace

InspectReport InspectTensors(const Checkpoint& checkpoint,
                             const absl::StatusOr<ModelConfig>& config, int num_workers,
                             LmHeadDtype lm_head) {
  InspectReport report;
  report.directory = checkpoint.directory();
  report.shards = checkpoint.num_shards();
  for (size_t shard = 0; shard < checkpoint.num_shards(); ++shard) {
    report.tensors += checkpoint.shard_tensors(shard).size();
    for (const TensorInfo& tensor : checkpoint.shard_tensors(shard)) report.bytes += tensor.bytes;
  }
  if (config.ok()) {
    report.model_type = config->model_type;
    report.layers = config->num_layers;
    report.experts = config->num_experts;
    Inspection(checkpoint, *config, lm_head, report).Run(num_workers);
    return report;
  }
  // Without a config that we understand, names still tell the parts.
  report.refusal = std::string(config.status().message());
  ModelConfig any;
  any.num_layers = INT32_MAX;
  Grouping grouping;
  for (const TensorInfo* tensor : checkpoint.tensors()) {
    grouping.Add(PartOf(tensor->name, any), *tensor);
  }
  report.groups = grouping.Sorted();
  return report;
}

InspectReport InspectCheckpoint(const std::string& directory, int num_workers) {
  const auto checkpoint = Checkpoint::Open(directory);
  if (checkpoint.ok()) {
    auto config = LoadModelConfig(directory);
    if (config.ok()) FitVocabulary(**checkpoint, *config);
    return InspectTensors(**checkpoint, config, num_workers);
  }
  InspectReport report;
  report.directory = directory;
  report.refusal = std::string(checkpoint.status().message());
  return report;
}

}  // namespace sheaf
