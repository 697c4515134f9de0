#include "model/config_json.h"

#include <cmath>

#include "absl/strings/str_format.h"

namespace sheaf {
namespace {

constexpr size_t kMaxShownValue = 60;

// Whatever the value is, in a few words: JSON from outside may be long or not UTF-8.
std::string Shown(const nlohmann::json& value) {
  std::string text = value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  if (text.size() > kMaxShownValue) text = text.substr(0, kMaxShownValue) + "...";
  return text;
}

}  // namespace

const nlohmann::json* JsonObject::Find(Keys keys) const {
  for (const char* key : keys) {
    const auto at = json_->find(key);
    if (at != json_->end() && !at->is_null()) return &*at;
  }
  return nullptr;
}

absl::Status JsonObject::Error(std::string_view key, std::string_view wanted,
                               const nlohmann::json& got) const {
  return absl::InvalidArgumentError(
      absl::StrFormat("%s: %s: wanted %s, got %s", source_, key, wanted, Shown(got)));
}

absl::Status JsonObject::Int(Keys keys, int64_t low, int64_t high, int& out, bool required) const {
  const nlohmann::json* const value = Find(keys);
  if (value == nullptr) {
    if (!required) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrFormat("%s: %s: missing", source_, *keys.begin()));
  }
  const std::string wanted = absl::StrFormat("an integer in %d..%d", low, high);
  if (!value->is_number_integer()) return Error(*keys.begin(), wanted, *value);
  // An unsigned value above INT64_MAX would wrap.
  if (value->is_number_unsigned() && value->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) {
    return Error(*keys.begin(), wanted, *value);
  }
  const int64_t number = value->get<int64_t>();
  if (number < low || number > high) return Error(*keys.begin(), wanted, *value);
  out = static_cast<int>(number);
  return absl::OkStatus();
}

absl::Status JsonObject::Number(Keys keys, double low, double high, double& out) const {
  const nlohmann::json* const value = Find(keys);
  if (value == nullptr) return absl::OkStatus();
  const std::string wanted = absl::StrFormat("a number in %g..%g", low, high);
  if (!value->is_number()) return Error(*keys.begin(), wanted, *value);
  const double number = value->get<double>();
  if (!std::isfinite(number) || number < low || number > high) {
    return Error(*keys.begin(), wanted, *value);
  }
  out = number;
  return absl::OkStatus();
}

absl::Status JsonObject::Bool(Keys keys, bool& out) const {
  const nlohmann::json* const value = Find(keys);
  if (value == nullptr) return absl::OkStatus();
  if (!value->is_boolean()) return Error(*keys.begin(), "true or false", *value);
  out = value->get<bool>();
  return absl::OkStatus();
}

absl::Status JsonObject::String(Keys keys, std::string& out) const {
  const nlohmann::json* const value = Find(keys);
  if (value == nullptr) return absl::OkStatus();
  if (!value->is_string()) return Error(*keys.begin(), "a string", *value);
  out = value->get<std::string>();
  return absl::OkStatus();
}

absl::StatusOr<nlohmann::json> ParseJsonObject(std::string_view text, std::string_view source) {
  // nlohmann's parser recurses no deeper than the text nests; its DOM destructor does, so bound the
  // nesting.
  constexpr int kMaxDepth = 64;
  bool too_deep = false;
  const auto watch_depth = [&](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
    if (depth > kMaxDepth) too_deep = true;
    return !too_deep;
  };
  nlohmann::json json =
      nlohmann::json::parse(text.begin(), text.end(), watch_depth, /*allow_exceptions=*/false);
  if (too_deep) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: nested deeper than %d levels", source, kMaxDepth));
  }
  if (!json.is_object()) {
    return absl::InvalidArgumentError(absl::StrFormat("%s: not a JSON object", source));
  }
  return json;
}

}  // namespace sheaf
