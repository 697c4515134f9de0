#pragma once
// ExpandConfig: `--config FILE` as vLLM has it: a flat YAML map from flag name to value or list of
// values, whose entries become arguments, but for flags that the command line gives itself.
//
// Errors     kInvalidArgument naming the flag, the file and what is wrong with it.

#include <string>
#include <vector>

#include "absl/status/status.h"

namespace sheaf {

// Takes `--config FILE` (or --config=FILE) out of the arguments and appends what the file says.
absl::Status ExpandConfig(std::vector<std::string>& arguments);

}  // namespace sheaf
