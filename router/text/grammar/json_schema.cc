#include "router/text/grammar/json_schema.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "base/json_nul.h"
#include "base/status.h"
#include "router/text/grammar/forced_text.h"

namespace sheaf {
namespace {

constexpr size_t kMaxSchemaBytes = size_t{1} << 20;
constexpr size_t kMaxLevels = 64;
constexpr int kMaxMembers = 2'000;
constexpr double kBillionth = 1e-9;
constexpr double kLargestInteger = 9e18;  // below 2^63, where llguidance's own ranges end

struct Extent {
  int levels = 0;
  int members = 0;  // of the largest object
};

// By brackets and colons outside strings; wrong JSON has an extent too. Ordered objects are
// searched one member after another, so a large one would cost the square of its size to read.
Extent ExtentOf(std::string_view text) {
  Extent extent;
  std::vector<int> open;  // members so far
  bool in_string = false;
  for (size_t i = 0; i < text.size() && open.size() <= kMaxLevels; ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      open.push_back(0);
      extent.levels = std::max(extent.levels, static_cast<int>(open.size()));
    } else if ((c == '}' || c == ']') && !open.empty()) {
      open.pop_back();
    } else if (c == ':' && !open.empty()) {
      extent.members = std::max(extent.members, ++open.back());
    }
  }
  return extent;
}

// Keywords that say where a document is and how it is to be read; references have been checked to
// stay within it.
constexpr const char* kDropped[] = {"$schema", "$id", "id", "$anchor", "$vocabulary"};

void Rewrite(SchemaJson& schema);

void RewriteAll(SchemaJson& list_or_map) {
  for (auto& part : list_or_map) Rewrite(part);
}

// llguidance ignores `format` of what is no string, and refuses formats that it does not know.
void RewriteFormat(SchemaJson& schema) {
  const auto format = schema.find("format");
  if (format == schema.end() || !format->is_string()) return;
  const std::string& name = format->get_ref<const std::string&>();
  if (name == "password" || name == "byte" || name == "binary" || name.starts_with("int") ||
      name.starts_with("uint") || name == "float" || name == "double") {
    schema.erase("format");
  }
}

// An integer may have any number of digits, and few readers take them: where the schema sets no
// bound, integers stay within 64 bits.
void BoundIntegers(SchemaJson& schema) {
  const auto type = schema.find("type");
  if (type == schema.end() || *type != "integer" || schema.contains("const") ||
      schema.contains("enum")) {
    return;
  }
  const auto bound = [&schema](const char* from, const char* exclusive, const char* to,
                               double value) {
    if (schema.contains(from) || schema.contains(exclusive)) return;
    const auto other = schema.find(to);
    // The schema's own numbers are beyond: it knows why.
    if (other != schema.end() && std::abs(other->get<double>()) > kLargestInteger) return;
    schema[from] = value;
  };
  bound("minimum", "exclusiveMinimum", "maximum", -kLargestInteger);
  bound("maximum", "exclusiveMaximum", "minimum", kLargestInteger);
}

// llguidance takes 41 for "above 41" when the other bound is below 42. What is given up are numbers
// within a billionth of the bound.
void RewriteExclusiveBounds(SchemaJson& schema) {
  const auto number = [&schema](const char* keyword) -> std::optional<double> {
    const auto found = schema.find(keyword);
    if (found == schema.end() || !found->is_number()) return std::nullopt;
    return found->get<double>();
  };
  const std::optional<double> above = number("exclusiveMinimum");
  const std::optional<double> below = number("exclusiveMaximum");
  const double low = std::max(above.value_or(-HUGE_VAL), number("minimum").value_or(-HUGE_VAL));
  const double high = std::min(below.value_or(HUGE_VAL), number("maximum").value_or(HUGE_VAL));
  if (above == low && low >= 0 && low == std::floor(low) && high < low + 1) {
    schema.erase("exclusiveMinimum");
    schema["minimum"] = low + kBillionth;
  }
  if (below == high && high <= 0 && high == std::floor(high) && low > high - 1) {
    schema.erase("exclusiveMaximum");
    schema["maximum"] = high - kBillionth;
  }
}

void Rewrite(SchemaJson& schema) {
  if (!schema.is_object()) return;
  RewriteExclusiveBounds(schema);
  BoundIntegers(schema);
  for (const char* keyword : kDropped) {
    if (const auto found = schema.find(keyword); found != schema.end() && found->is_string()) {
      schema.erase(keyword);
    }
  }
  RewriteFormat(schema);
  for (const char* no_op : {"uniqueItems", "nullable", "propertyNames", "unevaluatedProperties",
                            "unevaluatedItems", "minContains", "maxContains"}) {
    schema.erase(no_op);
  }
  for (const char* keyword : {"anyOf", "oneOf", "allOf", "prefixItems", "properties",
                              "patternProperties", "$defs", "definitions"}) {
    const auto found = schema.find(keyword);
    if (found != schema.end() && found->is_structured()) RewriteAll(*found);
  }
  for (const char* keyword : {"items", "additionalItems", "additionalProperties"}) {
    const auto found = schema.find(keyword);
    if (found == schema.end()) continue;
    found->is_array() ? RewriteAll(*found) : Rewrite(*found);
  }
  // The alternatives exclude each other: CheckSchema has seen to that.
  if (const auto one_of = schema.find("oneOf"); one_of != schema.end()) {
    SchemaJson alternatives = std::move(*one_of);
    schema.erase("oneOf");
    if (!schema.contains("anyOf")) {
      schema["anyOf"] = std::move(alternatives);
    } else {
      schema["allOf"].push_back({{"anyOf", std::move(alternatives)}});
    }
  }
}

}  // namespace

absl::StatusOr<SchemaJson> ParseSchemaText(std::string_view text, std::string_view where) {
  if (text.size() > kMaxSchemaBytes) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%sthe text has %d bytes, more than the limit of %d", where, text.size(), kMaxSchemaBytes));
  }
  if (HasNul(text)) {
    return absl::InvalidArgumentError(absl::StrFormat("%snot valid JSON: a NUL byte", where));
  }
  const Extent extent = ExtentOf(text);
  if (extent.levels > static_cast<int>(kMaxLevels)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%snested deeper than the limit of %d levels", where, kMaxLevels));
  }
  if (extent.members > kMaxMembers) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%san object has more members than the limit of %d", where, kMaxMembers));
  }
  try {
    return SchemaJson::parse(text);
  } catch (const SchemaJson::exception& error) {
    // nlohmann's text: "[json.exception.parse_error.101] parse error at line 1, column 2: ..."
    const std::string_view what = error.what();
    const size_t bracket = what.find("] ");
    return absl::InvalidArgumentError(
        absl::StrFormat("%snot valid JSON: %s", where,
                        bracket == std::string_view::npos ? what : what.substr(bracket + 2)));
  }
}

absl::StatusOr<SchemaJson> PrepareSchema(std::string_view text, std::string_view where) {
  SHEAF_ASSIGN_OR_RETURN(SchemaJson schema, ParseSchemaText(text, where));
  SHEAF_RETURN_IF_ERROR(CheckSchema(schema, where));
  SHEAF_RETURN_IF_ERROR(CheckForcedText(schema, where));
  Rewrite(schema);
  return schema;
}

std::string SchemaForGrammar(SchemaJson schema, bool any_whitespace) {
  // llguidance's options travel within the schema.
  if (!schema.is_object()) schema = SchemaJson::object();
  schema["x-guidance"] = {{"whitespace_flexible", any_whitespace}};
  return schema.dump();
}

}  // namespace sheaf
