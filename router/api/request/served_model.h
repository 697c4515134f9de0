#pragma once
// What the API says of the model it serves.

#include <cstdint>
#include <string>
#include <vector>

#include "model/config.h"

namespace sheaf {

struct ServedModel {
  std::vector<std::string> names;  // at least one; the first is the one in answers
  ModelConfig config;
  int64_t created_unix_seconds = 0;
  std::string server_version;
};

}  // namespace sheaf
