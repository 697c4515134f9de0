#pragma once
// Which files of a directory are the model's weights, by their names alone.
//
// Files of one stem belong together: STEM.safetensors, STEM.safetensors.index.json, and numbered
// shards STEM-0000k-of-0000n.safetensors. The stem "model" is taken where it is there; otherwise
// one that has an index; otherwise the only one that is left. Files that are known to be beside a
// model (mtp, consolidated, adapter_model) count only where nothing else is.
//
// Threads    pure.
// Errors     kUnimplemented: files of a format that is not read (GGUF, pickles). kNotFound: no
//            weights, or numbered shards with a gap (names the missing file). kInvalidArgument: two
//            candidates (names them).

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace sheaf {

inline constexpr std::string_view kIndexSuffix = ".safetensors.index.json";

// File names. At least one of the members is set; where several are, the whole file goes before the
// index, unless the index names it as one of its shards, and the index before the numbers.
struct WeightFiles {
  std::string whole;                  // STEM.safetensors
  std::string index;                  // STEM.safetensors.index.json
  std::vector<std::string> numbered;  // in order, complete
};

// `names` are those of the directory, in any order; `directory` is for messages.
absl::StatusOr<WeightFiles> ChooseWeightFiles(std::vector<std::string> names,
                                              const std::string& directory);

}  // namespace sheaf
