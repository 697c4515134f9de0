#pragma once
// ExpertLoader: where a worker's experts come from. CheckpointExperts reads a checkpoint; tests give
// their own.
//
// HeldExpert     an expert in memory; letting go of the last pointer gives its memory back.
// Threads        Load: lanes [0, lanes()) at the same time, calls of one never overlap. The rest: any.
// Errors         Load: as model/expert_reader.h. Trying again may help against kDataLoss,
//                kResourceExhausted and kUnavailable, and nothing else.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "base/ids.h"
#include "kernels/experts/expert_ffn.h"
#include "model/expert_reader.h"

namespace sheaf {

class HeldExpert {
 public:
  virtual ~HeldExpert() = default;
  virtual const kernels::ExpertWeights& weights() const = 0;
  virtual size_t resident_bytes() const = 0;
};
using HeldExpertPtr = std::shared_ptr<const HeldExpert>;

class ExpertLoader {
 public:
  virtual ~ExpertLoader() = default;
  virtual absl::StatusOr<HeldExpertPtr> Load(const LayerExpert& pair, int lane) = 0;
  virtual int lanes() const { return 1; }
  // It will be loaded soon.
  virtual void WillNeed(const LayerExpert& /*pair*/) {}
  // Of one expert, all alike or the largest: in memory, and in the files.
  virtual size_t expert_bytes() const = 0;
  virtual uint64_t expert_file_bytes() const = 0;
};

class CheckpointExperts final : public ExpertLoader {
 public:
  CheckpointExperts(std::unique_ptr<ExpertReader> reader, int lanes)
      : reader_(std::move(reader)), scratch_(static_cast<size_t>(std::max(1, lanes))) {}

  absl::StatusOr<HeldExpertPtr> Load(const LayerExpert& pair, int lane) override;
  int lanes() const override { return static_cast<int>(scratch_.size()); }
  void WillNeed(const LayerExpert& pair) override { reader_->WillNeed(pair); }
  size_t expert_bytes() const override { return reader_->expert_bytes(); }
  uint64_t expert_file_bytes() const override { return reader_->expert_file_bytes(); }

 private:
  const std::unique_ptr<ExpertReader> reader_;
  std::vector<LoadScratch> scratch_;  // one a lane
};

}  // namespace sheaf
