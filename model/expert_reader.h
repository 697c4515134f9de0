#pragma once
// ExpertReader: single experts of a checkpoint, each in memory of its own that goes back to the
// system when the expert is let go.
//
// Ownership  a ReadExpert owns its weights; nothing of reader or checkpoint is needed afterwards.
// Threads    Read and WillNeed from any thread, with a scratch each.
// Errors     as model/linear_loader.h; also kInvalidArgument for a (layer, expert) outside the
//            model; kDataLoss when a file of the checkpoint changed since it was opened.
// Cost       Read reads the expert's bytes once. Create looks at the headers of all experts and
//            reads one of the largest.

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/ids.h"
#include "kernels/experts/expert_ffn.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/linear_loader.h"
#include "model/linear_plan.h"

namespace sheaf {

using ExpertPlan = std::array<LinearPlan, 3>;  // gate, up, down

// An expert in some arena.
struct ReadExpert {
  std::array<LoadedLinear, 3> linears;
  kernels::ExpertWeights weights;
  size_t resident_bytes = 0;
};

// kInvalidArgument outside the model's layers with experts.
absl::Status CheckExpert(const ModelConfig& config, const LayerExpert& pair);
absl::StatusOr<ReadExpert> ReadPlannedExpert(const Checkpoint& checkpoint, const ExpertPlan& plan,
                                             const std::shared_ptr<PackedArena>& arena,
                                             LoadScratch& scratch);
uint64_t FileBytes(const ExpertPlan& plan);

class ExpertReader {
 public:
  static absl::StatusOr<std::unique_ptr<ExpertReader>> Create(
      std::shared_ptr<const Checkpoint> checkpoint, const ModelConfig& config);

  absl::StatusOr<ReadExpert> Read(const LayerExpert& pair, LoadScratch& scratch) const;
  // Asks the kernel for the bytes that Read will want.
  void WillNeed(const LayerExpert& pair) const;

  // Of the expert that is largest in the files; other experts of another storage may differ.
  size_t expert_bytes() const { return expert_bytes_; }
  uint64_t expert_file_bytes() const { return expert_file_bytes_; }
  const LayerExpert& largest() const { return largest_; }

 private:
  ExpertReader(std::shared_ptr<const Checkpoint> checkpoint, const ModelConfig& config)
      : checkpoint_(std::move(checkpoint)), config_(config) {}

  const std::shared_ptr<const Checkpoint> checkpoint_;
  const ModelConfig config_;
  size_t expert_bytes_ = 0;
  uint64_t expert_file_bytes_ = 0;
  LayerExpert largest_;
};

}  // namespace sheaf
