#pragma once
// The index of a sharded checkpoint: which file has which tensor.
//
// Threads    pure but for reading the file.
// Errors     kNotFound, kFailedPrecondition: cannot read. kInvalidArgument: not JSON, no
//            "weight_map", a shard that is not the name of a file beside it. Messages name file and
//            tensor.

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace sheaf {

struct WeightIndex {
  std::string path;
  std::vector<std::string> shard_names;              // sorted
  std::vector<std::pair<std::string, int>> tensors;  // name and its shard
};

absl::StatusOr<WeightIndex> ReadWeightIndex(const std::string& path);

}  // namespace sheaf
