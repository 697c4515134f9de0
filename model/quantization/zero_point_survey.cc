#include "model/quantization/zero_point_survey.h"

#include <string_view>
#include <vector>

#include "base/status.h"
#include "model/quantization/zero_points.h"

namespace sheaf {
namespace {

bool EndsWith(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

}  // namespace

ZeroPointSurvey::ZeroPointSurvey(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {
  uint64_t bytes = 0;
  for (size_t shard = 0; shard < checkpoint.num_shards(); ++shard) {
    for (const TensorInfo& tensor : checkpoint.shard_tensors(shard)) {
      if (EndsWith(tensor.name, "zeros") || EndsWith(tensor.name, "zero_point"))
        bytes += tensor.bytes;
    }
  }
  reads_all_ = bytes <= kMaxBytes;
}

absl::StatusOr<bool> ZeroPointSurvey::IsSymmetric(const LinearPlan& plan, ModelPart part) {
  if (plan.zeros == nullptr) return true;
  const std::pair key(part, plan.format);
  const auto first = first_of_.find(key);
  if (first != first_of_.end() && !reads_all_) return first->second;
  std::vector<uint8_t> bytes(plan.zeros_bytes());
  SHEAF_RETURN_IF_ERROR(checkpoint_.Read(*plan.zeros, plan.zeros_offset, bytes));
  SHEAF_ASSIGN_OR_RETURN(const ZeroPoints decided, DecideZeroPoints(plan, bytes));
  first_of_.emplace(key, decided == ZeroPoints::kSymmetric);
  return decided == ZeroPoints::kSymmetric;
}

}  // namespace sheaf
