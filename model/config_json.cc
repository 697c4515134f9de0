#include "model/config_json.h"

#include <cmath>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "base/json_nul.h"

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

std::optional<double> AsNumber(const nlohmann::json& value) {
  double number = 0;
  if (value.is_number()) {
    number = value.get<double>();
  } else if (!value.is_string() ||
             !absl::SimpleAtod(value.get_ref<const std::string&>(), &number)) {
    return std::nullopt;
  }
  if (!std::isfinite(number)) return std::nullopt;
  return number;
}

std::optional<int64_t> AsInteger(const nlohmann::json& value) {
  if (value.is_number_integer()) {
    // An unsigned value above INT64_MAX would wrap.
    if (value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) {
      return std::nullopt;
    }
    return value.get<int64_t>();
  }
  if (int64_t number = 0;
      value.is_string() && absl::SimpleAtoi(value.get_ref<const std::string&>(), &number)) {
    return number;
  }
  constexpr double kMaxExact = 9007199254740992.0;  // 2^53
  const std::optional<double> number = AsNumber(value);
  if (!number || std::trunc(*number) != *number || std::fabs(*number) > kMaxExact) {
    return std::nullopt;
  }
  return static_cast<int64_t>(*number);
}

absl::Status JsonObject::Int(Keys keys, int64_t low, int64_t high, int& out, bool required) const {
  const nlohmann::json* const value = Find(keys);
  if (value == nullptr) {
    if (!required) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrFormat("%s: %s: missing", source_, *keys.begin()));
  }
  const std::optional<int64_t> number = AsInteger(*value);
  if (!number || *number < low || *number > high) {
    return Error(*keys.begin(), absl::StrFormat("an integer in %d..%d", low, high), *value);
  }
  out = static_cast<int>(*number);
  return absl::OkStatus();
}

absl::Status JsonObject::Number(Keys keys, double low, double high, double& out) const {
  const nlohmann::json* const value = Find(keys);
  if (value == nullptr) return absl::OkStatus();
  const std::optional<double> number = AsNumber(*value);
  if (!number || *number < low || *number > high) {
    return Error(*keys.begin(), absl::StrFormat("a number in %g..%g", low, high), *value);
  }
  out = *number;
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
  if (HasNul(text)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: not JSON: byte %d is NUL", source, text.find('\0')));
  }
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
