#include "model/expert_reader.h"

#include <unistd.h>

#include <utility>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "model/absent_tensors.h"
#include "model/model_layout.h"
#include "model/packed_arena.h"

namespace sheaf {
namespace {

size_t MaxArenaBytes(const ExpertPlan& plan) {
  size_t bytes = 0;
  for (const LinearPlan& linear : plan) bytes += MaxArenaBytes(linear, {});
  return bytes;
}

size_t WholePages(size_t bytes) {
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  return (bytes + page - 1) / page * page;
}

}  // namespace

absl::Status CheckExpert(const ModelConfig& config, const LayerExpert& pair) {
  const int layer = pair.layer.value(), expert = pair.expert.value();
  if (layer < config.num_dense_layers || layer >= config.num_layers || expert < 0 ||
      expert >= config.num_experts) {
    return absl::InvalidArgumentError(
        absl::StrFormat("layer %d expert %d: wanted layers %d..%d, experts 0..%d", layer, expert,
                        config.num_dense_layers, config.num_layers - 1, config.num_experts - 1));
  }
  return absl::OkStatus();
}

uint64_t FileBytes(const ExpertPlan& plan) {
  uint64_t bytes = 0;
  for (const LinearPlan& linear : plan) bytes += linear.file_bytes();
  return bytes;
}

absl::StatusOr<ReadExpert> ReadPlannedExpert(const Checkpoint& checkpoint, const ExpertPlan& plan,
                                             const std::shared_ptr<PackedArena>& arena,
                                             LoadScratch& scratch) {
  ReadExpert expert;
  for (size_t i = 0; i < plan.size(); ++i) {
    SHEAF_ASSIGN_OR_RETURN(expert.linears[i],
                           LoadPlannedLinear(checkpoint, plan[i], {}, arena, scratch));
    expert.resident_bytes += expert.linears[i].owned_bytes();
  }
  expert.weights = {expert.linears[0].view(), expert.linears[1].view(), expert.linears[2].view()};
  return expert;
}

absl::StatusOr<std::unique_ptr<ExpertReader>> ExpertReader::Create(
    std::shared_ptr<const Checkpoint> checkpoint, const ModelConfig& config) {
  SHEAF_RETURN_IF_ERROR(JudgeAbsentTensors(*checkpoint, config).status());
  SHEAF_RETURN_IF_ERROR(CheckExpertCounts(*checkpoint, config));
  std::unique_ptr<ExpertReader> reader(new ExpertReader(std::move(checkpoint), config));
  LayerExpert& largest = reader->largest_;
  largest = {LayerId(config.num_dense_layers), ExpertId(0)};
  for (int layer = config.num_dense_layers; layer < config.num_layers; ++layer) {
    for (int expert = 0; expert < config.num_experts; ++expert) {
      // What is wrong with an expert concerns whoever is asked to hold it.
      const auto plan = PlanExpert(*reader->checkpoint_, config, layer, expert);
      if (!plan.ok()) continue;
      const uint64_t bytes = FileBytes(*plan);
      if (bytes <= reader->expert_file_bytes_) continue;
      reader->expert_file_bytes_ = bytes;
      reader->expert_bytes_ = WholePages(MaxArenaBytes(*plan));
      largest = {LayerId(layer), ExpertId(expert)};
    }
  }
  if (reader->expert_file_bytes_ == 0) {
    return PlanExpert(*reader->checkpoint_, config, largest.layer.value(), largest.expert.value())
        .status();
  }
  // The bound counts permutations and zero points that most files do without.
  LoadScratch scratch;
  const absl::StatusOr<ReadExpert> measured = reader->Read(largest, scratch);
  if (measured.ok()) reader->expert_bytes_ = measured->resident_bytes;
  return reader;
}

absl::StatusOr<ReadExpert> ExpertReader::Read(const LayerExpert& pair, LoadScratch& scratch) const {
  SHEAF_RETURN_IF_ERROR(CheckExpert(config_, pair));
  SHEAF_ASSIGN_OR_RETURN(
      const ExpertPlan plan,
      PlanExpert(*checkpoint_, config_, pair.layer.value(), pair.expert.value()));
  // Codes are kept in as many bytes as the file has: so much is certainly filled.
  uint64_t filled = 0;
  for (const LinearPlan& linear : plan) filled += linear.codes_bytes();
  SHEAF_ASSIGN_OR_RETURN(const std::shared_ptr<PackedArena> arena,
                         PackedArena::ReserveFilled(MaxArenaBytes(plan), filled));
  absl::StatusOr<ReadExpert> expert = ReadPlannedExpert(*checkpoint_, plan, arena, scratch);
  // First: what was read of a file that changed is no fault of the values.
  SHEAF_RETURN_IF_ERROR(checkpoint_->CheckUnchanged());
  SHEAF_RETURN_IF_ERROR(expert.status());
  expert->resident_bytes = WholePages(arena->used_bytes());
  return expert;
}

void ExpertReader::WillNeed(const LayerExpert& pair) const {
  const auto plan = PlanExpert(*checkpoint_, config_, pair.layer.value(), pair.expert.value());
  if (!plan.ok()) return;
  for (const LinearPlan& linear : *plan) linear.WillNeed(*checkpoint_);
}

}  // namespace sheaf
