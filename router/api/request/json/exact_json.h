#pragma once
// JSON of clients whose integers keep all their digits on the way into a prompt.
//
// nlohmann reads an integer beyond 64 bits as a double. Here it is kept as a binary value of its
// digits: no JSON text makes such a value, so nothing a client writes can pass for one.
// Threads: pure.

#include <optional>
#include <string>
#include <string_view>

#include "nlohmann/json.hpp"

namespace sheaf {

// Keeps the order of keys: chat templates print arguments in it.
using Json = nlohmann::ordered_json;

// What `text` says; a discarded value when it is no JSON, with nlohmann's message in `error`.
Json ParseExactJson(std::string_view text, std::string* error = nullptr);

// Compact; bytes that are not UTF-8 become U+FFFD.
std::string DumpExactJson(const Json& value);

// The digits of an integer beyond 64 bits.
std::optional<std::string> LongIntegerDigits(const Json& value);

}  // namespace sheaf
