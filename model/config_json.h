#pragma once
// JsonObject: typed look-ups in one JSON object of a config file, with messages that name file,
// key, wanted, got.
//
// A key may have several spellings; the first that is present and not null counts. Absent keys
// leave `out` alone. Numbers may be written as strings ("202752"), integers as floats (1e6):
// exporters that go through other languages do so, and neither has a second meaning.
// Ownership  views the JSON and the source name.
// Threads    pure.
// Errors     kInvalidArgument.

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace sheaf {

class JsonObject {
 public:
  using Keys = std::initializer_list<const char*>;

  // `json` must be an object.
  JsonObject(const nlohmann::json& json, std::string_view source) : json_(&json), source_(source) {}

  // Null when no spelling is present.
  const nlohmann::json* Find(Keys keys) const;

  bool Has(const char* key) const { return json_->contains(key); }  // null counts

  // An integer in [low, high]. `required`: absent is an error.
  absl::Status Int(Keys keys, int64_t low, int64_t high, int& out, bool required = false) const;
  // A finite number in [low, high].
  absl::Status Number(Keys keys, double low, double high, double& out) const;
  absl::Status Bool(Keys keys, bool& out) const;
  absl::Status String(Keys keys, std::string& out) const;

  // "FILE: key: wanted ..., got ...".
  absl::Status Error(std::string_view key, std::string_view wanted,
                     const nlohmann::json& got) const;

  std::string_view source() const { return source_; }
  const nlohmann::json& json() const { return *json_; }

 private:
  const nlohmann::json* json_;
  std::string_view source_;
};

// The value as an integer: one, an integral float, or a string of either. Absent for anything else.
std::optional<int64_t> AsInteger(const nlohmann::json& value);
// As a finite number, or a string of one.
std::optional<double> AsNumber(const nlohmann::json& value);

// The text as a JSON object, or kInvalidArgument.
absl::StatusOr<nlohmann::json> ParseJsonObject(std::string_view text, std::string_view source);

}  // namespace sheaf
