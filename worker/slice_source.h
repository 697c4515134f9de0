#pragma once
// SliceSource: an ExpertSlice as a source of experts for a process that holds them for good
// (--workers 0, in-process workers). Threads: as ExpertSource.

#include <memory>
#include <utility>

#include "exchange/expert_source.h"
#include "model/expert_slice.h"

namespace sheaf {

class SliceSource final : public ExpertSource {
 public:
  explicit SliceSource(std::unique_ptr<ExpertSlice> slice) : slice_(std::move(slice)) {}
  const kernels::ExpertWeights* Find(LayerId layer, ExpertId expert) const override {
    return slice_->Find(layer, expert);
  }

 private:
  const std::unique_ptr<ExpertSlice> slice_;
};

}  // namespace sheaf
