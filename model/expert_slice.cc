#include "model/expert_slice.h"

#include <algorithm>

#include "base/status.h"
#include "model/absent_tensors.h"
#include "model/expert_reader.h"
#include "model/load_tracker.h"
#include "model/model_layout.h"

namespace sheaf {
namespace {

// Experts whose pages are asked for ahead of the one being repacked, a thread.
constexpr size_t kExpertsAhead = 4;

void Prefetch(const Checkpoint& checkpoint, const ExpertPlan& plan) {
  for (const LinearPlan& linear : plan) linear.WillNeed(checkpoint);
}

}  // namespace

struct ExpertSlice::Impl {
  std::shared_ptr<PackedArena> arena;
  int num_experts_per_layer = 0;
  std::vector<int32_t>
      index;  // [layer * num_experts_per_layer + expert] -> position in `experts`; -1 = not held
  std::vector<ReadExpert> experts;
};

ExpertSlice::ExpertSlice() : impl_(std::make_unique<Impl>()) {}
ExpertSlice::~ExpertSlice() = default;

absl::StatusOr<std::unique_ptr<ExpertSlice>> ExpertSlice::Load(
    const Checkpoint& checkpoint, const ModelConfig& config, std::span<const LayerExpert> experts,
    ThreadPool& pool, const LoadProgress& progress) {
  SHEAF_RETURN_IF_ERROR(JudgeAbsentTensors(checkpoint, config).status());
  SHEAF_RETURN_IF_ERROR(CheckExpertCounts(checkpoint, config));
  std::vector<LayerExpert> pairs(experts.begin(), experts.end());
  std::sort(pairs.begin(), pairs.end());
  pairs.erase(std::unique(pairs.begin(), pairs.end()), pairs.end());
  for (const LayerExpert& pair : pairs) SHEAF_RETURN_IF_ERROR(CheckExpert(config, pair));

  std::vector<ExpertPlan> plans(pairs.size());
  LoadTracker planning(0, nullptr);
  pool.ParallelFor(static_cast<int64_t>(pairs.size()), [&](int64_t item, int) {
    if (planning.failed()) return;
    auto plan =
        PlanExpert(checkpoint, config, pairs[item].layer.value(), pairs[item].expert.value());
    if (plan.ok()) {
      plans[item] = *std::move(plan);
    } else {
      planning.Fail(static_cast<size_t>(item), plan.status());
    }
  });
  SHEAF_RETURN_IF_ERROR(planning.status());

  std::unique_ptr<ExpertSlice> slice(new ExpertSlice);
  Impl& impl = *slice->impl_;
  impl.num_experts_per_layer = config.num_experts;
  impl.index.assign(static_cast<size_t>(config.num_layers) * config.num_experts, -1);
  impl.experts.resize(pairs.size());
  size_t total_bytes = 0, arena_bytes = 0;
  for (size_t item = 0; item < pairs.size(); ++item) {
    impl.index[pairs[item].layer.value() * config.num_experts + pairs[item].expert.value()] =
        static_cast<int32_t>(item);
    for (const LinearPlan& plan : plans[item]) {
      total_bytes += plan.file_bytes();
      arena_bytes += MaxArenaBytes(plan, {});
    }
  }
  SHEAF_ASSIGN_OR_RETURN(impl.arena, PackedArena::Reserve(arena_bytes));

  const size_t ahead = kExpertsAhead * static_cast<size_t>(pool.num_threads());
  for (size_t item = 0; item < std::min(ahead, plans.size()); ++item)
    Prefetch(checkpoint, plans[item]);
  std::vector<LoadScratch> scratch(static_cast<size_t>(pool.num_threads()));
  LoadTracker tracker(total_bytes, progress);
  pool.ParallelFor(static_cast<int64_t>(pairs.size()), [&](int64_t item, int thread) {
    if (tracker.failed()) return;
    const auto at = static_cast<size_t>(item);
    if (at + ahead < plans.size()) Prefetch(checkpoint, plans[at + ahead]);
    absl::StatusOr<ReadExpert> expert = ReadPlannedExpert(
        checkpoint, plans[at], impl.arena, scratch[static_cast<size_t>(thread)]);
    if (!expert.ok()) {
      tracker.Fail(at, expert.status());
      return;
    }
    impl.experts[at] = *std::move(expert);
    tracker.Done(FileBytes(plans[at]));
  });
  // First: what was read of a file that changed is no fault of the values.
  SHEAF_RETURN_IF_ERROR(checkpoint.CheckUnchanged());
  SHEAF_RETURN_IF_ERROR(tracker.status());
  return slice;
}

const kernels::ExpertWeights* ExpertSlice::Find(LayerId layer, ExpertId expert) const {
  const Impl& impl = *impl_;
  if (layer.value() < 0 || expert.value() < 0 || expert.value() >= impl.num_experts_per_layer)
    return nullptr;
  const size_t at =
      static_cast<size_t>(layer.value()) * impl.num_experts_per_layer + expert.value();
  if (at >= impl.index.size() || impl.index[at] < 0) return nullptr;
  return &impl.experts[impl.index[at]].weights;
}

size_t ExpertSlice::num_experts() const { return impl_->experts.size(); }

size_t ExpertSlice::resident_bytes() const { return impl_->arena->used_bytes(); }

std::vector<LayerExpert> AllExperts(const ModelConfig& config) {
  std::vector<LayerExpert> all;
  for (int layer = config.num_dense_layers; layer < config.num_layers; ++layer) {
    for (int expert = 0; expert < config.num_experts; ++expert)
      all.push_back({LayerId(layer), ExpertId(expert)});
  }
  return all;
}

}  // namespace sheaf
