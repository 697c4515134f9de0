#include "cli/options/config_file.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cstddef>
#include <exception>

#include "absl/strings/str_format.h"

namespace sheaf {
namespace {

absl::Status AppendConfigFile(const std::string& path, std::vector<std::string>& arguments) {
  YAML::Node root;
  try {
    root = YAML::LoadFile(path);
    if (root.IsNull()) return absl::OkStatus();  // empty, or all of it is comments: no settings
    if (!root.IsMap()) {
      return absl::InvalidArgumentError(
          absl::StrFormat("--config: %s: wanted a map of flag names to values", path));
    }
    std::vector<std::string> added;
    for (const auto& entry : root) {
      const std::string flag = "--" + entry.first.as<std::string>();
      const bool given =
          std::any_of(arguments.begin(), arguments.end(), [&](const std::string& argument) {
            return argument == flag || argument.rfind(flag + "=", 0) == 0;
          });
      if (given) continue;
      if (entry.second.IsScalar()) {
        // In one word: a flag without a value takes "=true", but not a word behind it.
        added.push_back(flag + "=" + entry.second.as<std::string>());
      } else if (entry.second.IsSequence()) {
        added.push_back(flag);
        for (const auto& value : entry.second) added.push_back(value.as<std::string>());
      } else {
        return absl::InvalidArgumentError(
            absl::StrFormat("--config: %s: %s: wanted a value or a list of values", path, flag));
      }
    }
    arguments.insert(arguments.end(), added.begin(), added.end());
  } catch (const std::exception& error) {  // of YAML, or of the stream: a directory
    return absl::InvalidArgumentError(absl::StrFormat("--config: %s: %s", path, error.what()));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ExpandConfig(std::vector<std::string>& arguments) {
  for (size_t i = 0; i < arguments.size(); ++i) {
    std::string path;
    size_t count = 1;
    if (arguments[i].rfind("--config=", 0) == 0) {
      path = arguments[i].substr(9);
    } else if (arguments[i] == "--config") {
      if (i + 1 == arguments.size())
        return absl::InvalidArgumentError("--config: wanted a file name");
      path = arguments[i + 1];
      count = 2;
    } else {
      continue;
    }
    const auto at = arguments.begin() + static_cast<ptrdiff_t>(i);
    arguments.erase(at, at + static_cast<ptrdiff_t>(count));
    return AppendConfigFile(path, arguments);
  }
  return absl::OkStatus();
}

}  // namespace sheaf
