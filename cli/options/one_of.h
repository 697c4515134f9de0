#pragma once
// A flag whose value is one of some names.

#include <CLI/CLI.hpp>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_join.h"

namespace sheaf {

// A name of the map, which help lists by its names alone.
template <typename T>
CLI::Validator OneOf(const std::map<std::string, T>& values) {
  std::vector<std::string> names;
  for (const auto& [name, value] : values) names.push_back(name);
  return CLI::CheckedTransformer(values).description("{" + absl::StrJoin(names, ",") + "}");
}

}  // namespace sheaf
