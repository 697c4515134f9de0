#pragma once
// JsonFields reads typed fields of one JSON object and collects every wrong type instead of
// stopping at the first.
//
// An absent field and null are the same: not sent. Values are converted as pydantic does, which
// other servers read bodies with: integers may be written 16, 16.0, "16" or "16.0", numbers "0.5",
// bools "true", "on", 1 and the like. A bool is not a number, and a number is not a text.
// Ownership: object and violations outlive it. Threads: one.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "nlohmann/json.hpp"
#include "router/api/request/api_error.h"
#include "router/api/request/json/exact_json.h"

namespace sheaf {

// The JSON of a body, or what is wrong with it: "[subject] not a valid JSON object: ...". Refuses
// shapes that no request has (json_shape.h).
ApiResult<Json> ParseRequestJson(std::string_view body, std::string_view subject = "the body is");

class JsonFields {
 public:
  JsonFields(const Json& object, std::vector<FieldViolation>& violations)
      : object_(object), violations_(violations) {}

  // The value if it was sent and is not null.
  const Json* Find(const char* name) const;
  std::optional<bool> Bool(const char* name);
  std::optional<double> Number(const char* name);
  std::optional<int64_t> Integer(const char* name);
  std::optional<std::string> String(const char* name);
  // An object, as JSON text; empty: not sent.
  std::string ObjectText(const char* name);
  std::vector<int64_t> Integers(const char* name);
  // A text or a list of texts.
  std::vector<std::string> Strings(const char* name);

  void Fail(std::string name, std::string description);
  // "must be X, got Y" where Y names the type of what came.
  void WrongType(std::string name, const char* wanted, const Json& got);

 private:
  const Json& object_;
  std::vector<FieldViolation>& violations_;
};

std::optional<bool> AsBool(const Json& value);
std::optional<double> AsNumber(const Json& value);
// An integer value, however written; nothing when it is none or does not fit.
std::optional<int64_t> AsInteger(const Json& value);

// Compact text on one line, whatever a reader takes for a line's end; bytes that are not UTF-8
// become U+FFFD.
std::string JsonText(const Json& value);

}  // namespace sheaf
