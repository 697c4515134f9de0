// CheckSchema: every keyword that a value can break is enforced by llguidance or refused here, with
// its path.

#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "router/text/grammar/finite_value.h"
#include "router/text/grammar/json_schema.h"
#include "router/text/grammar/regex_text.h"

namespace sheaf {
namespace {

// Counts cost states: a thousand items are cheap, a million are not.
constexpr double kMaxItems = 10'000;
constexpr double kMaxLength = 100'000;
constexpr double kMaxProperties = 1'000;
constexpr int kMaxPatternKeys = 32;  // of patternProperties: all pairs are compared
constexpr size_t kMaxSchemas = 5'000;
constexpr size_t kMaxListed = 1'000;      // of anyOf and the like
constexpr size_t kMaxAlternatives = 256;  // of oneOf: all pairs are compared
constexpr size_t kMaxValues = 10'000;     // of enum
// Through references; llguidance recurses as deep.
constexpr int kMaxDepth = 400;

enum class Shape {
  kAnnotation,  // says nothing about what is valid
  kSchema,
  kSchemaList,
  kSchemaOrList,
  kSchemaMap,
  kItemCount,
  kLength,
  kPropertyCount,
  kNumber,
  kBound,  // a number, or draft 4's boolean
  kPositive,
  kType,
  kValues,
  kValue,
  kNames,
  kPattern,
  kPatternMap,
  kFormat,
  kReference,
  kOnlyFalse,     // enforced nowhere, so it may only say nothing
  kNothingToSay,  // likewise, for a schema
};

const std::map<std::string_view, Shape>& Keywords() {
  static const auto* keywords = new std::map<std::string_view, Shape>{
      {"$anchor", Shape::kAnnotation},
      {"$comment", Shape::kAnnotation},
      {"$defs", Shape::kAnnotation},  // what is referred to is checked there
      {"$id", Shape::kAnnotation},
      {"$ref", Shape::kReference},
      {"$schema", Shape::kAnnotation},
      {"$vocabulary", Shape::kAnnotation},
      {"additionalItems", Shape::kSchema},
      {"additionalProperties", Shape::kSchema},
      {"allOf", Shape::kSchemaList},
      {"anyOf", Shape::kSchemaList},
      {"const", Shape::kValue},
      {"contentEncoding", Shape::kAnnotation},
      {"contentMediaType", Shape::kAnnotation},
      {"contentSchema", Shape::kAnnotation},
      {"default", Shape::kAnnotation},
      {"definitions", Shape::kAnnotation},
      {"deprecated", Shape::kAnnotation},
      {"description", Shape::kAnnotation},
      {"discriminator", Shape::kAnnotation},
      {"enum", Shape::kValues},
      {"enumNames", Shape::kAnnotation},
      {"example", Shape::kAnnotation},
      {"examples", Shape::kAnnotation},
      {"exclusiveMaximum", Shape::kBound},
      {"exclusiveMinimum", Shape::kBound},
      {"externalDocs", Shape::kAnnotation},
      {"format", Shape::kFormat},
      {"id", Shape::kAnnotation},
      {"items", Shape::kSchemaOrList},
      {"markdownDescription", Shape::kAnnotation},
      {"maxItems", Shape::kItemCount},
      {"maxLength", Shape::kLength},
      {"maxProperties", Shape::kPropertyCount},
      {"maximum", Shape::kNumber},
      {"minItems", Shape::kItemCount},
      {"minLength", Shape::kLength},
      {"minProperties", Shape::kPropertyCount},
      {"minimum", Shape::kNumber},
      {"multipleOf", Shape::kPositive},
      {"nullable", Shape::kOnlyFalse},
      {"oneOf", Shape::kSchemaList},
      {"pattern", Shape::kPattern},
      {"patternProperties", Shape::kPatternMap},
      {"prefixItems", Shape::kSchemaList},
      {"properties", Shape::kSchemaMap},
      {"propertyNames", Shape::kNothingToSay},
      {"propertyOrdering", Shape::kAnnotation},
      {"readOnly", Shape::kAnnotation},
      {"required", Shape::kNames},
      {"strict", Shape::kAnnotation},
      {"title", Shape::kAnnotation},
      {"type", Shape::kType},
      {"unevaluatedItems", Shape::kNothingToSay},
      {"unevaluatedProperties", Shape::kNothingToSay},
      {"uniqueItems", Shape::kOnlyFalse},
      {"writeOnly", Shape::kAnnotation},
      {"xml", Shape::kAnnotation},
  };
  return *keywords;
}

const std::set<std::string_view>& Formats() {
  static const auto* formats = new std::set<std::string_view>{
      "date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uri", "uuid"};
  return *formats;
}

bool IsOnlyAdvice(std::string_view format) {
  return format == "password" || format == "byte" || format == "binary";
}

class Checker {
 public:
  Checker(const SchemaJson& root, std::string_view where) : root_(root), where_(where) {}

  absl::Status Check() {
    SHEAF_RETURN_IF_ERROR(Visit(root_, "$", 0));
    return CheckFiniteValue(root_, targets_, where_);
  }

 private:
  using Member = SchemaJson::const_iterator;

  absl::Status Error(const std::string& path, std::string_view what) const {
    return absl::InvalidArgumentError(absl::StrFormat("%s%s: %s", where_, path, what));
  }

  // "#/$defs/a" is "$.$defs.a".
  static std::string PathOf(std::string_view reference) {
    std::string path = "$";
    for (const char c : reference.substr(1)) path += c == '/' ? '.' : c;
    return path;
  }

  absl::Status Visit(const SchemaJson& schema, const std::string& path, int depth) {
    if (schema.is_boolean()) return absl::OkStatus();
    if (!schema.is_object()) {
      return Error(
          path, absl::StrFormat("a schema is an object or a boolean, got %s", schema.type_name()));
    }
    if (depth > kMaxDepth) {
      return Error(path, absl::StrFormat("nested deeper than %d levels, with references followed",
                                         kMaxDepth));
    }
    if (!visited_.insert(&schema).second) return absl::OkStatus();
    if (visited_.size() > kMaxSchemas) {
      return Error(path, absl::StrFormat("more than %d schemas within the schema", kMaxSchemas));
    }
    for (auto member = schema.begin(); member != schema.end(); ++member) {
      SHEAF_RETURN_IF_ERROR(VisitKeyword(member.key(), *member, path, depth));
    }
    return CheckTogether(schema, path);
  }

  absl::Status VisitKeyword(const std::string& keyword, const SchemaJson& value,
                            const std::string& schema_path, int depth) {
    const std::string path = absl::StrFormat("%s.%s", schema_path, keyword);
    const auto known = Keywords().find(keyword);
    if (known == Keywords().end()) {
      if (keyword.starts_with("x-") && keyword != "x-guidance") return absl::OkStatus();
      return Error(path, "the keyword is not supported");
    }
    switch (known->second) {
      case Shape::kAnnotation:
        return absl::OkStatus();
      case Shape::kSchemaOrList:
        if (value.is_array()) return VisitList(value, path, depth);
        [[fallthrough]];
      case Shape::kSchema:
        return Visit(value, path, depth + 1);
      case Shape::kSchemaList:
        if (!value.is_array()) return Error(path, "must be a list of schemas");
        if (value.empty() && keyword != "prefixItems") return Error(path, "must not be empty");
        if (value.size() > kMaxListed) {
          return Error(path, absl::StrFormat("has %d schemas, more than the limit of %d",
                                             value.size(), kMaxListed));
        }
        SHEAF_RETURN_IF_ERROR(VisitList(value, path, depth));
        return keyword == "oneOf" ? CheckOneOf(value, path) : absl::OkStatus();
      case Shape::kPatternMap:
      case Shape::kSchemaMap:
        return VisitMap(value, path, depth, known->second == Shape::kPatternMap);
      case Shape::kItemCount:
        return CheckCount(value, path, kMaxItems);
      case Shape::kLength:
        return CheckCount(value, path, kMaxLength);
      case Shape::kPropertyCount:
        return CheckCount(value, path, kMaxProperties);
      case Shape::kBound:
        if (value.is_boolean()) return absl::OkStatus();
        [[fallthrough]];
      case Shape::kNumber:
        return value.is_number() ? absl::OkStatus() : Error(path, "must be a number");
      case Shape::kPositive:
        return value.is_number() && value.get<double>() > 0 ? absl::OkStatus()
                                                            : Error(path, "must be above 0");
      case Shape::kType:
        return CheckType(value, path);
      case Shape::kValue:
        return absl::OkStatus();
      case Shape::kValues:
        if (!value.is_array() || value.empty()) return Error(path, "must be a list of values");
        return value.size() <= kMaxValues
                   ? absl::OkStatus()
                   : Error(path, absl::StrFormat("has %d values, more than the limit of %d",
                                                 value.size(), kMaxValues));
      case Shape::kNames:
        return CheckNames(value, path);
      case Shape::kPattern:
        if (!value.is_string()) return Error(path, "must be a regular expression in a string");
        return CheckPattern(value.get_ref<const std::string&>(), where_ + path);
      case Shape::kFormat:
        return CheckFormat(value, path);
      case Shape::kReference:
        return VisitReference(value, path, depth);
      case Shape::kOnlyFalse:
        if (value.is_boolean() && !value.get<bool>()) return absl::OkStatus();
        return Error(path, keyword == "nullable"
                               ? "is not supported: add \"null\" to the types instead"
                               : "the keyword is not supported");
      case Shape::kNothingToSay:
        if (SaysNothing(value)) return absl::OkStatus();
        return Error(path, "the keyword is not supported");
    }
    return absl::OkStatus();
  }

  // true, {} or, of names, {"type": "string"}.
  static bool SaysNothing(const SchemaJson& value) {
    return value == SchemaJson(true) || value == SchemaJson::object() ||
           value == SchemaJson{{"type", "string"}};
  }

  absl::Status VisitList(const SchemaJson& list, const std::string& path, int depth) {
    for (size_t i = 0; i < list.size(); ++i) {
      SHEAF_RETURN_IF_ERROR(Visit(list[i], absl::StrFormat("%s[%d]", path, i), depth + 1));
    }
    return absl::OkStatus();
  }

  absl::Status VisitMap(const SchemaJson& map, const std::string& path, int depth,
                        bool keys_are_patterns) {
    if (!map.is_object()) return Error(path, "must be an object of schemas");
    if (map.size() > kMaxProperties) {
      return Error(path, absl::StrFormat("has %d members, more than the limit of %d", map.size(),
                                         static_cast<int>(kMaxProperties)));
    }
    for (auto member = map.begin(); member != map.end(); ++member) {
      const std::string member_path = absl::StrFormat("%s.%s", path, member.key());
      if (keys_are_patterns) {
        SHEAF_RETURN_IF_ERROR(CheckPattern(member.key(), where_ + member_path));
        if (++num_pattern_keys_ > kMaxPatternKeys) {
          return Error(path,
                       absl::StrFormat("more than %d of them in the schema", kMaxPatternKeys));
        }
      }
      SHEAF_RETURN_IF_ERROR(Visit(*member, member_path, depth + 1));
    }
    return absl::OkStatus();
  }

  absl::Status VisitReference(const SchemaJson& value, const std::string& path, int depth) {
    if (!value.is_string()) return Error(path, "must be a string");
    const std::string& reference = value.get_ref<const std::string&>();
    if (!reference.starts_with('#')) {
      return Error(path, absl::StrFormat("\"%s\" is another document; only references within the "
                                         "schema (\"#/...\") are supported",
                                         reference));
    }
    const SchemaJson* target = ResolveReference(root_, reference);
    if (target == nullptr) {
      return Error(path, absl::StrFormat("\"%s\" is not in the schema", reference));
    }
    if (reference.find("/oneOf") != std::string::npos) {
      return Error(path, absl::StrFormat("\"%s\" points into a oneOf; put the target into $defs",
                                         reference));
    }
    if (!targets_.contains(target)) targets_.emplace(target, path);
    return Visit(*target, PathOf(reference), depth + 1);
  }

  absl::Status CheckCount(const SchemaJson& value, const std::string& path, double limit) const {
    if (!value.is_number_integer() || value < 0) {
      return Error(path, "must be an integer, 0 or more");
    }
    if (value.get<double>() > limit) {
      return Error(path, absl::StrFormat("%s is beyond the limit of %d", value.dump(),
                                         static_cast<int>(limit)));
    }
    return absl::OkStatus();
  }

  absl::Status CheckType(const SchemaJson& value, const std::string& path) const {
    const auto known = [](const SchemaJson& name) {
      return name.is_string() && TypeByName(name.get_ref<const std::string&>()) != 0;
    };
    if (known(value)) return absl::OkStatus();
    if (value.is_array() && !value.empty()) {
      for (const SchemaJson& name : value) {
        if (!known(name)) return Error(path, absl::StrFormat("%s is no type", name.dump()));
      }
      return absl::OkStatus();
    }
    return Error(path, absl::StrFormat("%s is no type", value.dump()));
  }

  absl::Status CheckNames(const SchemaJson& value, const std::string& path) const {
    if (!value.is_array()) return Error(path, "must be a list of names");
    for (const SchemaJson& name : value) {
      if (!name.is_string()) return Error(path, "must be a list of names");
    }
    return absl::OkStatus();
  }

  absl::Status CheckFormat(const SchemaJson& value, const std::string& path) const {
    if (!value.is_string()) return Error(path, "must be a string");
    const std::string& name = value.get_ref<const std::string&>();
    const bool of_number =
        name.starts_with("int") || name.starts_with("uint") || name == "float" || name == "double";
    if (Formats().contains(name) || IsOnlyAdvice(name) || of_number) return absl::OkStatus();
    return Error(path, absl::StrFormat("the format \"%s\" is not supported", name));
  }

  // Grammars take any alternative that fits; exactly one is only sure where no two fit together.
  absl::Status CheckOneOf(const SchemaJson& alternatives, const std::string& path) const {
    if (alternatives.size() > kMaxAlternatives) {
      return Error(path, absl::StrFormat("has %d alternatives, more than the limit of %d",
                                         alternatives.size(), kMaxAlternatives));
    }
    for (size_t i = 0; i < alternatives.size(); ++i) {
      for (size_t j = i + 1; j < alternatives.size(); ++j) {
        if (!AreDisjoint(root_, alternatives[i], alternatives[j])) {
          return Error(path, absl::StrFormat(
                                 "alternatives %d and %d may both fit a value; oneOf is supported "
                                 "where types, values or a required property's const tell all "
                                 "alternatives apart: use anyOf",
                                 i, j));
        }
      }
    }
    return absl::OkStatus();
  }

  // What two keywords of one schema say against each other.
  absl::Status CheckTogether(const SchemaJson& schema, const std::string& path) const {
    for (const auto& [low, high] : {std::pair{"minItems", "maxItems"},
                                    {"minLength", "maxLength"},
                                    {"minProperties", "maxProperties"},
                                    {"minimum", "maximum"}}) {
      const auto from = schema.find(low);
      const auto to = schema.find(high);
      if (from != schema.end() && to != schema.end() && *from > *to) {
        return Error(path, absl::StrFormat("no value is possible: %s is %s, %s is %s", low,
                                           from->dump(), high, to->dump()));
      }
    }
    const auto values = schema.find("enum");
    if (schema.contains("type") && (schema.contains("const") || values != schema.end())) {
      const SchemaJson only_type = {{"type", schema["type"]}};
      const TypeSet types = TypesOf(root_, only_type);
      TypeSet listed = 0;
      if (values != schema.end()) {
        for (const SchemaJson& value : *values) listed |= TypeOfValue(value);
      }
      if (schema.contains("const")) listed |= TypeOfValue(schema["const"]);
      if ((listed & types) == 0) {
        return Error(path, absl::StrFormat("no value is possible: its values are not of type %s",
                                           schema["type"].dump()));
      }
    }
    const auto additional = schema.find("additionalProperties");
    const auto required = schema.find("required");
    const bool is_closed = additional != schema.end() && *additional == SchemaJson(false) &&
                           !schema.contains("patternProperties");
    const size_t num_required = required == schema.end() ? 0 : required->size();
    const auto fewest = schema.find("minProperties");
    if (!is_closed && fewest != schema.end() && *fewest > num_required + 1) {
      return Error(path + ".minProperties",
                   absl::StrFormat("%s is not supported where %d are required and other keys are "
                                   "free: a free key may come twice",
                                   fewest->dump(), num_required));
    }
    if (is_closed && required != schema.end()) {
      const auto properties = schema.find("properties");
      for (const SchemaJson& name : *required) {
        if (properties == schema.end() || !properties->contains(name.get<std::string>())) {
          return Error(path, absl::StrFormat("no value is possible: %s is required, but neither in "
                                             "properties nor allowed beside them",
                                             name.dump()));
        }
      }
    }
    return absl::OkStatus();
  }

  const SchemaJson& root_;
  const std::string where_;
  int num_pattern_keys_ = 0;
  std::set<const SchemaJson*> visited_;
  ReferenceTargets targets_;
};

}  // namespace

absl::Status CheckSchema(const SchemaJson& schema, std::string_view where) {
  return Checker(schema, where).Check();
}

}  // namespace sheaf
