#pragma once
// CpuEngine: the experts of a checkpoint in the host's memory, each in memory of its own, computed
// by the CPU's kernels.
//
// Contract   as worker/engine/expert_engine.h. It is never lost.

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "model/expert_reader.h"
#include "worker/engine/expert_engine.h"

namespace sheaf {

class CpuEngine final : public ExpertEngine {
 public:
  // memory_bytes: for experts; 0 = no bound.
  CpuEngine(std::unique_ptr<ExpertReader> reader, int lanes, uint64_t memory_bytes)
      : reader_(std::move(reader)),
        scratch_(static_cast<size_t>(std::max(1, lanes))),
        memory_bytes_(memory_bytes) {}

  absl::StatusOr<HeldExpertPtr> Load(const LayerExpert& pair, int lane) override;
  int lanes() const override { return static_cast<int>(scratch_.size()); }
  void WillNeed(const LayerExpert& pair) override { reader_->WillNeed(pair); }
  size_t expert_bytes() const override { return reader_->expert_bytes(); }
  uint64_t expert_file_bytes() const override { return reader_->expert_file_bytes(); }
  uint64_t memory_bytes() const override { return memory_bytes_; }
  std::unique_ptr<ExpertCompute> NewCompute(ThreadPool& pool) override;

 private:
  const std::unique_ptr<ExpertReader> reader_;
  std::vector<LoadScratch> scratch_;  // one a lane
  const uint64_t memory_bytes_;
};

}  // namespace sheaf
