#include "cli/options/speculative_config.h"

#include <optional>
#include <string>

#include "absl/strings/str_format.h"
#include "base/json_nul.h"
#include "base/status.h"
#include "nlohmann/json.hpp"

namespace sheaf {
namespace {

using Json = nlohmann::json;

constexpr char kFlag[] = "--speculative-config";

absl::StatusOr<std::optional<int>> Integer(const Json& config, const char* key, int high) {
  const auto found = config.find(key);
  if (found == config.end() || found->is_null()) return std::optional<int>();
  if (found->is_number_integer() && *found >= 1 && *found <= high) return found->get<int>();
  return absl::InvalidArgumentError(absl::StrFormat("%s: %s: wanted an integer in 1..%d, got %s",
                                                    kFlag, key, high, found->dump().substr(0, 64)));
}

absl::Status CheckKeys(const Json& config) {
  for (const auto& [key, value] : config.items()) {
    if (key == "num_speculative_tokens" || key == "prompt_lookup_max" ||
        key == "prompt_lookup_min") {
      continue;
    }
    if (key != "method") {
      return absl::InvalidArgumentError(absl::StrFormat(
          "%s: wanted method, num_speculative_tokens, prompt_lookup_max or prompt_lookup_min, got "
          "\"%s\"",
          kFlag, key.substr(0, 64)));
    }
    if (value != "ngram") {
      return absl::InvalidArgumentError(absl::StrFormat(
          "%s: method: wanted \"ngram\", got %s", kFlag, value.dump().substr(0, 64)));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SpeculationOptions> ParseSpeculativeConfig(std::string_view text) {
  SpeculationOptions options;
  if (text.empty()) return options;
  const Json config = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!config.is_object() || HasNul(text)) {
    return absl::InvalidArgumentError(absl::StrFormat("%s: wanted a JSON object, got %s", kFlag,
                                                      std::string(text.substr(0, 64))));
  }
  SHEAF_RETURN_IF_ERROR(CheckKeys(config));
  SHEAF_ASSIGN_OR_RETURN(const std::optional<int> longest,
                         Integer(config, "num_speculative_tokens", DraftRecord::kLongest));
  if (!longest.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: num_speculative_tokens: is required", kFlag));
  }
  options.longest_draft = *longest;
  SHEAF_ASSIGN_OR_RETURN(const std::optional<int> most, Integer(config, "prompt_lookup_max", 32));
  SHEAF_ASSIGN_OR_RETURN(const std::optional<int> least, Integer(config, "prompt_lookup_min", 32));
  if (most.has_value() || least.has_value()) {
    options.ngram.min_match = least.has_value() ? *least : *most;
    options.ngram.max_match = most.has_value() ? *most : *least;
  }
  if (options.ngram.min_match > options.ngram.max_match) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s: prompt_lookup_min: wanted at most prompt_lookup_max = %d, got %d", kFlag,
        options.ngram.max_match, options.ngram.min_match));
  }
  return options;
}

}  // namespace sheaf
