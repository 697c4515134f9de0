#pragma once
// Values of a config as people and tools write them: numbers and booleans may be strings.
//
// Threads    pure. Errors  nothing where the value cannot be read so.

#include <cstdint>
#include <optional>
#include <string>

#include "nlohmann/json.hpp"

namespace sheaf {

// 4, "4", 4.0.
std::optional<int64_t> LenientInt(const nlohmann::ordered_json& value);
// true, "true", "True", 1, and the same of false.
std::optional<bool> LenientBool(const nlohmann::ordered_json& value);

// The value of `key`; null when `object` is no object, has no such key, or null there.
const nlohmann::ordered_json* FindKey(const nlohmann::ordered_json& object, const char* key);

// For messages: at most 60 bytes of it, ASCII.
std::string ShortJson(const nlohmann::ordered_json& value);

}  // namespace sheaf
