#pragma once
// Random JSON Schemas, and whether a value is valid under one of them. The check knows what the
// generator writes and nothing else; it is written from the specification, not from the grammars.

#include <algorithm>
#include <cctype>
#include <cmath>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"

namespace sheaf::testing {

class RandomSchemas {
 public:
  using Json = nlohmann::ordered_json;

  explicit RandomSchemas(uint64_t seed) : random_(seed) {}

  size_t Pick(size_t n) { return static_cast<size_t>(random_() % n); }

  Json Schema(int depth) {
    switch (Pick(depth > 0 ? 11 : 7)) {
      case 0:
        return {{"type", "boolean"}};
      case 1:
        return {{"type", "null"}};
      case 2:
        return Integer();
      case 3:
        return Number();
      case 4:
        return String();
      case 5:
        return Enum();
      case 6:
        return Formatted();
      case 7:
        return Array(depth);
      case 8:
        return AnyOf(depth);
      default:
        return Object(depth);
    }
  }

  Json Object(int depth) {
    Json schema = {{"type", "object"}, {"properties", Json::object()}};
    Json required = Json::array();
    const size_t num_properties = Pick(5);
    for (size_t i = 0; i < num_properties; ++i) {
      const std::string name = Name();
      schema["properties"][name] = Schema(depth - 1);
      if (Pick(2)) required.push_back(name);
    }
    std::sort(required.begin(), required.end());
    required.erase(std::unique(required.begin(), required.end()), required.end());
    if (!required.empty()) schema["required"] = required;
    switch (Pick(6)) {
      case 0:
        schema["additionalProperties"] = Schema(0);
        break;
      case 1:
        break;
      default:
        schema["additionalProperties"] = false;
    }
    return schema;
  }

 private:
  std::string Name() {
    static const char* names[] = {"a",   "name", "id",    "first name", "\xC3\xA9t\xC3\xA9",
                                  "x\"", "y\\",  "items", "$ref?",      "type"};
    return names[Pick(std::size(names))];
  }

  Json Integer() {
    Json schema = {{"type", "integer"}};
    const int low = static_cast<int>(Pick(2000)) - 1000;
    if (Pick(2)) schema["minimum"] = low;
    if (Pick(2)) schema["maximum"] = low + static_cast<int>(Pick(500));
    if (Pick(4) == 0) schema["multipleOf"] = 1 + Pick(7);
    return schema;
  }

  Json Number() {
    Json schema = {{"type", "number"}};
    const double low = (static_cast<double>(Pick(2000)) - 1000) / 8;
    if (Pick(2)) schema[Pick(2) ? "minimum" : "exclusiveMinimum"] = low;
    if (Pick(2)) schema[Pick(2) ? "maximum" : "exclusiveMaximum"] = low + 0.5 + Pick(100);
    return schema;
  }

  Json String() {
    Json schema = {{"type", "string"}};
    const size_t low = Pick(8);
    if (Pick(2)) schema["minLength"] = low;
    if (Pick(3)) schema["maxLength"] = low + Pick(12);
    return schema;
  }

  Json Formatted() {
    switch (Pick(6)) {
      case 0:
        return {{"type", "string"}, {"format", "date"}};
      case 1:
        return {{"type", "string"}, {"format", "uuid"}};
      case 2:
        return {{"type", "string"}, {"format", "ipv4"}};
      case 3:
        return {{"type", "string"}, {"pattern", "^[a-c]{2,4}$"}};
      case 4:
        return {{"type", "string"}, {"pattern", "\\d"}, {"maxLength", 12}};
      default:
        return {{"type", "string"}, {"pattern", "^(x|yy)+-"}, {"maxLength", 20}};
    }
  }

  Json Enum() {
    Json values = Json::array();
    const std::vector<Json> pool = {"red",         "green \"x\"", "\n", 3,  -1,
                                    2.5,           nullptr,       true, "", Json::array({1, "a"}),
                                    Json{{"k", 1}}};
    for (size_t i = 0; i <= Pick(4); ++i) values.push_back(pool[Pick(pool.size())]);
    if (Pick(4) == 0) return {{"const", values[0]}};
    return {{"enum", values}};
  }

  Json Array(int depth) {
    Json schema = {{"type", "array"}, {"items", Schema(depth - 1)}};
    const size_t low = Pick(3);
    if (Pick(2)) schema["minItems"] = low;
    if (Pick(3)) schema["maxItems"] = low + Pick(4);
    if (Pick(6) == 0) schema["prefixItems"] = Json::array({Schema(depth - 1), Schema(0)});
    return schema;
  }

  Json AnyOf(int depth) {
    Json alternatives = Json::array();
    for (size_t i = 0; i < 2 + Pick(2); ++i) alternatives.push_back(Schema(depth - 1));
    return {{"anyOf", alternatives}};
  }

  std::mt19937_64 random_;
};

inline size_t CodePoints(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

inline bool AllOf(const std::string& text, const std::function<bool(char)>& holds) {
  return std::all_of(text.begin(), text.end(), holds);
}

inline bool IsDigit(char c) { return c >= '0' && c <= '9'; }

inline bool HasFormat(const std::string& format, const std::string& text) {
  if (format == "date") {
    if (text.size() != 10 || text[4] != '-' || text[7] != '-') return false;
    const int month = std::stoi(text.substr(5, 2));
    const int day = std::stoi(text.substr(8));
    static const int days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return month >= 1 && month <= 12 && day >= 1 && day <= days[month - 1];
  }
  if (format == "uuid") {
    for (size_t i = 0; i < text.size(); ++i) {
      const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
      if (dash ? text[i] != '-' : !std::isxdigit(static_cast<unsigned char>(text[i]))) return false;
    }
    return text.size() == 36;
  }
  size_t begin = 0;
  for (int part = 0; part < 4; ++part) {
    if (begin > text.size()) return false;  // fewer parts
    const size_t end = std::min(text.find('.', begin), text.size());
    const std::string number = text.substr(begin, end - begin);
    if (number.empty() || number.size() > 3 || !AllOf(number, IsDigit) || std::stoi(number) > 255) {
      return false;
    }
    begin = end + 1;
  }
  return begin == text.size() + 1;
}

inline bool FitsPattern(const std::string& pattern, const std::string& text) {
  if (pattern == "^[a-c]{2,4}$") {
    return text.size() >= 2 && text.size() <= 4 &&
           AllOf(text, [](char c) { return c >= 'a' && c <= 'c'; });
  }
  if (pattern == "\\d") return std::any_of(text.begin(), text.end(), IsDigit);
  size_t at = 0;  // ^(x|yy)+-
  while (at < text.size() && (text[at] == 'x' || text.compare(at, 2, "yy") == 0)) {
    at += text[at] == 'x' ? 1 : 2;
  }
  return at > 0 && at < text.size() && text[at] == '-';
}

inline bool IsValid(const nlohmann::ordered_json& schema, const nlohmann::ordered_json& value) {
  if (schema.is_boolean()) return schema.get<bool>();
  if (schema.contains("anyOf")) {
    return std::any_of(schema["anyOf"].begin(), schema["anyOf"].end(),
                       [&](const auto& part) { return IsValid(part, value); });
  }
  // 3 and 3.0 are equal, for the library too.
  if (schema.contains("const")) return value == schema["const"];
  if (schema.contains("enum")) {
    return std::find(schema["enum"].begin(), schema["enum"].end(), value) != schema["enum"].end();
  }
  const std::string type = schema["type"];
  if (type == "null") return value.is_null();
  if (type == "boolean") return value.is_boolean();
  if (type == "integer" || type == "number") {
    if (!value.is_number()) return false;
    const double number = value.get<double>();
    if (type == "integer" && number != std::floor(number)) return false;
    // Exactly: a double does not hold 19 digits.
    const int64_t unit = schema.value("multipleOf", int64_t{1});
    if (value.is_number_integer() && value.get<int64_t>() % unit != 0) return false;
    if (!value.is_number_integer() && unit != 1) return false;
    return number >= schema.value("minimum", -1e300) && number <= schema.value("maximum", 1e300) &&
           number > schema.value("exclusiveMinimum", -1e300) &&
           number < schema.value("exclusiveMaximum", 1e300);
  }
  if (type == "string") {
    if (!value.is_string()) return false;
    const std::string text = value;
    return CodePoints(text) >= schema.value("minLength", size_t{0}) &&
           CodePoints(text) <= schema.value("maxLength", size_t{1} << 30) &&
           (!schema.contains("pattern") || FitsPattern(schema["pattern"], text)) &&
           (!schema.contains("format") || HasFormat(schema["format"], text));
  }
  if (type == "array") {
    if (!value.is_array() || value.size() < schema.value("minItems", size_t{0}) ||
        value.size() > schema.value("maxItems", size_t{1} << 30)) {
      return false;
    }
    const size_t prefix = schema.contains("prefixItems") ? schema["prefixItems"].size() : 0;
    for (size_t i = 0; i < value.size(); ++i) {
      if (!IsValid(i < prefix ? schema["prefixItems"][i] : schema["items"], value[i])) return false;
    }
    return true;
  }
  if (!value.is_object()) return false;
  for (const auto& name : schema.value("required", nlohmann::ordered_json::array())) {
    if (!value.contains(name.get<std::string>())) return false;
  }
  for (auto member = value.begin(); member != value.end(); ++member) {
    const auto& properties = schema["properties"];
    const auto property = properties.find(member.key());
    if (property != properties.end() ? !IsValid(*property, *member)
                                     : schema.contains("additionalProperties") &&
                                           !IsValid(schema["additionalProperties"], *member)) {
      return false;
    }
  }
  return true;
}

}  // namespace sheaf::testing
