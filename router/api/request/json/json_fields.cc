#include "router/api/request/json/json_fields.h"

#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "router/api/request/json/excerpt.h"
#include "router/api/request/json/json_shape.h"

namespace sheaf {
namespace {

// U+0085, U+2028 and U+2029 end a line for readers that go by Unicode's rules (Python's splitlines
// is one), and would cut a server-sent event in two. In JSON they stand in strings alone, so their
// escapes say the same.
std::string WithoutLineSeparators(std::string json) {
  const auto escape_at = [&json](size_t at) -> const char* {
    const std::string_view rest = std::string_view(json).substr(at, 3);
    if (rest.starts_with("\xC2\x85")) return "\\u0085";
    if (rest == "\xE2\x80\xA8") return "\\u2028";
    if (rest == "\xE2\x80\xA9") return "\\u2029";
    return nullptr;
  };
  std::string escaped;
  size_t copied = 0;
  for (size_t at = 0; at < json.size(); ++at) {
    if (json[at] != '\xC2' && json[at] != '\xE2') continue;  // nearly every byte
    const char* const escape = escape_at(at);
    if (escape == nullptr) continue;
    escaped.append(json, copied, at - copied).append(escape);
    copied = at + (json[at] == '\xC2' ? 2 : 3);
  }
  if (copied == 0) return json;
  return escaped.append(json, copied);
}

ApiError NotAnObject(std::string_view subject, const std::string& why) {
  return ApiError{
      absl::InvalidArgumentError(std::string(subject) + " not a valid JSON object: " + why),
      {},
      {}};
}

}  // namespace

ApiResult<Json> ParseRequestJson(std::string_view body, std::string_view subject) {
  if (auto hostile = FindHostileShape(body)) return NotAnObject(subject, *hostile);
  std::string error;
  Json json = ParseExactJson(body, &error);
  if (json.is_discarded()) {
    // "[json.exception.parse_error.101] parse error at line 1, column 5: ..."
    const size_t end_of_id = error.find("] ");
    // The message ends with all of the value that it stopped at.
    if (end_of_id != std::string::npos) error.erase(0, end_of_id + 2);
    return NotAnObject(subject, Excerpt(error, 2 * kMaxQuotedBytes));
  }
  if (!json.is_object()) {
    return NotAnObject(
        subject, std::string("it is of type ") + (json.is_binary() ? "number" : json.type_name()));
  }
  return json;
}

const Json* JsonFields::Find(const char* name) const {
  const auto found = object_.find(name);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

std::optional<bool> JsonFields::Bool(const char* name) {
  const Json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (const auto truth = AsBool(*value)) return truth;
  WrongType(name, "true or false", *value);
  return std::nullopt;
}

std::optional<double> JsonFields::Number(const char* name) {
  const Json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (const auto number = AsNumber(*value)) return number;
  WrongType(name, "a number", *value);
  return std::nullopt;
}

std::optional<int64_t> JsonFields::Integer(const char* name) {
  const Json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (auto integer = AsInteger(*value)) return integer;
  WrongType(name, "a 64-bit integer", *value);
  return std::nullopt;
}

std::optional<std::string> JsonFields::String(const char* name) {
  const Json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_string()) return value->get<std::string>();
  WrongType(name, "a text", *value);
  return std::nullopt;
}

std::string JsonFields::ObjectText(const char* name) {
  const Json* value = Find(name);
  if (value == nullptr) return {};
  if (value->is_object()) return JsonText(*value);
  WrongType(name, "an object", *value);
  return {};
}

std::vector<int64_t> JsonFields::Integers(const char* name) {
  std::vector<int64_t> integers;
  const Json* value = Find(name);
  if (value == nullptr) return integers;
  if (!value->is_array()) {
    WrongType(name, "a list of integers", *value);
    return integers;
  }
  for (const Json& item : *value) {
    const auto integer = AsInteger(item);
    if (!integer) {
      WrongType(name, "a list of 64-bit integers", item);
      return {};
    }
    integers.push_back(*integer);
  }
  return integers;
}

std::vector<std::string> JsonFields::Strings(const char* name) {
  const Json* value = Find(name);
  if (value == nullptr) return {};
  if (value->is_string()) return {value->get<std::string>()};
  if (!value->is_array()) {
    WrongType(name, "a text or a list of texts", *value);
    return {};
  }
  std::vector<std::string> strings;
  for (const Json& item : *value) {
    if (!item.is_string()) {
      WrongType(name, "a text or a list of texts", item);
      return {};
    }
    strings.push_back(item.get<std::string>());
  }
  return strings;
}

void JsonFields::Fail(std::string name, std::string description) {
  violations_.push_back({std::move(name), std::move(description)});
}

void JsonFields::WrongType(std::string name, const char* wanted, const Json& got) {
  constexpr size_t kMaxShown = 40;
  // Its text only where that may be short: it is made as a whole.
  const bool is_long = got.is_string() ? got.get_ref<const std::string&>().size() > kMaxShown
                                       : got.size() > kMaxShown / 2;
  std::string text = is_long ? std::string() : JsonText(got);
  if (is_long || text.size() > kMaxShown) {
    text = got.is_binary() ? "number" : std::string(got.type_name());
  }
  Fail(std::move(name), std::string("must be ") + wanted + ", got " + text);
}

std::optional<bool> AsBool(const Json& value) {
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number()) {
    if (value == 1) return true;
    if (value == 0) return false;
    return std::nullopt;
  }
  if (!value.is_string()) return std::nullopt;
  const std::string word = absl::AsciiStrToLower(value.get<std::string>());
  for (const char* yes : {"true", "t", "yes", "y", "on", "1"}) {
    if (word == yes) return true;
  }
  for (const char* no : {"false", "f", "no", "n", "off", "0"}) {
    if (word == no) return false;
  }
  return std::nullopt;
}

std::optional<double> AsNumber(const Json& value) {
  if (value.is_number()) return value.get<double>();
  double number = 0;
  if (const auto digits = LongIntegerDigits(value); digits && absl::SimpleAtod(*digits, &number)) {
    return number;
  }
  if (!value.is_string() || !absl::SimpleAtod(value.get<std::string>(), &number)) {
    return std::nullopt;
  }
  return number;
}

std::optional<int64_t> AsInteger(const Json& value) {
  if (value.is_string()) {
    std::string digits = value.get<std::string>();
    const size_t point = digits.find('.');
    if (point != std::string::npos && point + 1 < digits.size() &&
        digits.find_first_not_of('0', point + 1) == std::string::npos) {
      digits.resize(point);
    }
    int64_t integer = 0;
    if (absl::SimpleAtoi(digits, &integer)) return integer;
    return std::nullopt;
  }
  if (value.is_number_unsigned()) {
    const uint64_t number = value.get<uint64_t>();
    if (number > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
    return static_cast<int64_t>(number);
  }
  if (value.is_number_integer()) return value.get<int64_t>();
  if (value.is_number_float()) {
    const double number = value.get<double>();
    // 2^53: beyond, a float no longer says which integer was meant.
    if (number == std::floor(number) && std::fabs(number) <= 9007199254740992.0) {
      return static_cast<int64_t>(number);
    }
  }
  return std::nullopt;
}

std::string JsonText(const Json& value) {
  return WithoutLineSeparators(DumpExactJson(value));
}

}  // namespace sheaf
