#pragma once
// ZeroPointSurvey: what the zero points of a checkpoint's Linears are, and whether they contradict
// its config, before anything is loaded.
//
// Reads all of them where they are kMaxBytes in all, else those of the first Linear of every part
// and format, which stand for the others.
//
// Threads    one.
// Errors     those that loading would give: model/quantization/zero_points.h.
// Cost       at most kMaxBytes, or one Linear's zero points a part and format.

#include <cstdint>
#include <map>
#include <utility>

#include "absl/status/statusor.h"
#include "model/checkpoint.h"
#include "model/linear_plan.h"
#include "model/model_layout.h"

namespace sheaf {

class ZeroPointSurvey {
 public:
  static constexpr uint64_t kMaxBytes = 64 << 20;

  explicit ZeroPointSurvey(const Checkpoint& checkpoint);

  // Whether all zero points of the Linear are 8.
  absl::StatusOr<bool> IsSymmetric(const LinearPlan& plan, ModelPart part);

 private:
  const Checkpoint& checkpoint_;
  bool reads_all_ = true;
  std::map<std::pair<ModelPart, WeightFormat>, bool> first_of_;
};

}  // namespace sheaf
