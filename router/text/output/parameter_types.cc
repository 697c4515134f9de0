#include "router/text/output/parameter_types.h"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <optional>
#include <unordered_set>
#include <vector>

#include "absl/status/status.h"
#include "base/json_nul.h"
#include "nlohmann/json.hpp"

namespace sheaf {
namespace {

using Json = nlohmann::json;

constexpr int kMaxSchemasAParameter = 256;
constexpr int kMaxDepth = 64;  // of subschemas and references within each other

// What a schema says about the type of a value.
struct Finding {
  enum Kind { kNothing, kCycle, kTypes };  // kCycle: it is being asked already
  Kind kind = kNothing;
  JsonTypes types;
};

Finding Types(JsonTypes types) { return {Finding::kTypes, types}; }

// Both hold.
Finding Both(Finding a, Finding b) {
  if (a.kind == Finding::kTypes && b.kind == Finding::kTypes) return Types(a.types & b.types);
  if (a.kind == Finding::kNothing || b.kind == Finding::kTypes) return b;
  return a;
}

// One of them holds.
Finding Either(Finding a, Finding b) {
  if (a.kind == Finding::kCycle) return b;
  if (b.kind == Finding::kCycle) return a;
  if (a.kind == Finding::kNothing || b.kind == Finding::kNothing) return {};
  return Types(a.types | b.types);
}

std::optional<JsonTypes> TypesNamed(const Json& name) {
  if (!name.is_string()) return std::nullopt;
  const std::string& text = name.get_ref<const std::string&>();
  if (text == "null") return JsonType::kNull;
  if (text == "integer") return JsonType::kInteger;
  if (text == "number") return JsonTypes(JsonType::kInteger) | JsonType::kNumber;
  if (text == "boolean") return JsonType::kBoolean;
  if (text == "object") return JsonType::kObject;
  if (text == "array") return JsonType::kArray;
  if (text == "string") return JsonType::kString;
  return std::nullopt;
}

JsonTypes TypesOfValue(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return JsonType::kNull;
    case Json::value_t::boolean:
      return JsonType::kBoolean;
    case Json::value_t::object:
      return JsonType::kObject;
    case Json::value_t::array:
      return JsonType::kArray;
    case Json::value_t::number_float:
      return JsonTypes(JsonType::kInteger) | JsonType::kNumber;
    case Json::value_t::number_integer:
    case Json::value_t::number_unsigned:
      return JsonType::kInteger;
    default:
      return JsonType::kString;
  }
}

const Json* FindMember(const Json& object, const char* name) {
  const auto member = object.find(name);
  return member == object.end() ? nullptr : &*member;
}

int HexDigit(char c) {
  const char lower = static_cast<char>(c | 0x20);
  if (c >= '0' && c <= '9') return c - '0';
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

// One step of a JSON pointer in a URI fragment: %XX, then ~1 and ~0.
std::string DecodePointerStep(std::string_view step) {
  std::string bytes;
  for (size_t i = 0; i < step.size(); ++i) {
    if (step[i] == '%' && i + 2 < step.size() && HexDigit(step[i + 1]) >= 0 &&
        HexDigit(step[i + 2]) >= 0) {
      bytes.push_back(static_cast<char>(HexDigit(step[i + 1]) << 4 | HexDigit(step[i + 2])));
      i += 2;
    } else {
      bytes.push_back(step[i]);
    }
  }
  std::string name;
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (bytes[i] == '~' && i + 1 < bytes.size() && (bytes[i + 1] == '0' || bytes[i + 1] == '1')) {
      name.push_back(bytes[++i] == '0' ? '~' : '/');
    } else {
      name.push_back(bytes[i]);
    }
  }
  return name;
}

// The place that "#/a/b" names in `root`; null for anything else.
const Json* Resolve(const Json& root, std::string_view reference) {
  if (reference.empty() || reference.front() != '#') return nullptr;
  reference.remove_prefix(1);
  const Json* place = &root;
  while (!reference.empty()) {
    if (reference.front() != '/') return nullptr;
    reference.remove_prefix(1);
    const std::string_view step = reference.substr(0, reference.find('/'));
    reference.remove_prefix(step.size());
    const std::string name = DecodePointerStep(step);
    if (place->is_object()) {
      place = FindMember(*place, name.c_str());
      if (place == nullptr) return nullptr;
    } else if (place->is_array()) {
      size_t index = 0;
      const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), index);
      if (error != std::errc() || end != name.data() + name.size()) return nullptr;
      if (index >= place->size()) return nullptr;
      place = &(*place)[index];
    } else {
      return nullptr;
    }
  }
  return place;
}

// Reads one parameters schema.
class SchemaReader {
 public:
  explicit SchemaReader(const Json& root) : root_(root) {}

  ParameterTypes Read() {
    Collect(root_, 0);
    ParameterTypes result;
    for (const auto& [name, finding] : declared_) result.declared[name] = Decide(finding);
    result.others = Decide(others_);
    return result;
  }

 private:
  static JsonTypes Decide(Finding finding) {
    const bool known = finding.kind == Finding::kTypes && !finding.types.empty();
    return known ? finding.types : JsonTypes(JsonType::kString);
  }

  // The parameters that `schema` declares, itself or through what it is made of.
  void Collect(const Json& schema, int depth) {
    if (!schema.is_object() || depth > kMaxDepth || !collected_.insert(&schema).second) return;
    if (const Json* properties = FindMember(schema, "properties");
        properties != nullptr && properties->is_object()) {
      for (const auto& [name, property] : properties->items()) {
        AddTo(declared_[name], property);
      }
    }
    if (const Json* others = FindMember(schema, "additionalProperties");
        others != nullptr && others->is_object()) {
      AddTo(others_, *others);
    }
    if (const Json* target = Target(schema)) Collect(*target, depth + 1);
    for (const char* conditional : {"then", "else"}) {
      if (const Json* part = FindMember(schema, conditional)) Collect(*part, depth + 1);
    }
    for (const char* list : {"allOf", "anyOf", "oneOf"}) {
      const Json* parts = FindMember(schema, list);
      if (parts == nullptr || !parts->is_array()) continue;
      for (const Json& part : *parts) Collect(part, depth + 1);
    }
  }

  // A parameter may be declared in several places, of which some only describe it.
  void AddTo(Finding& known, const Json& schema) {
    schemas_left_ = kMaxSchemasAParameter;
    const Finding found = Find(schema);
    if (found.kind != Finding::kTypes) return;
    known = known.kind == Finding::kTypes ? Either(known, found) : found;
  }

  Finding Find(const Json& schema) {
    if (schema.is_boolean()) return schema.get<bool>() ? Finding{} : Types(JsonTypes());
    if (!schema.is_object()) return {};
    if (std::find(asked_.begin(), asked_.end(), &schema) != asked_.end()) {
      return {Finding::kCycle, {}};
    }
    if (--schemas_left_ < 0 || asked_.size() == kMaxDepth) return {};
    asked_.push_back(&schema);
    const Finding found = FindIn(schema);
    asked_.pop_back();
    return found;
  }

  Finding FindIn(const Json& schema) {
    Finding found = TypeKeyword(schema);
    if (const Json* value = FindMember(schema, "const"))
      found = Both(found, Types(TypesOfValue(*value)));
    if (const Json* values = FindMember(schema, "enum"); values != nullptr && values->is_array()) {
      schemas_left_ -= static_cast<int>(values->size() / kMaxSchemasAParameter);
      JsonTypes types;
      for (const Json& value : *values) types = types | TypesOfValue(value);
      found = Both(found, Types(types));
    }
    if (const Json* target = Target(schema)) found = Both(found, Find(*target));
    if (const Json* parts = FindMember(schema, "allOf"); parts != nullptr && parts->is_array()) {
      for (const Json& part : *parts) found = Both(found, Find(part));
    }
    for (const char* list : {"anyOf", "oneOf"}) {
      const Json* parts = FindMember(schema, list);
      if (parts == nullptr || !parts->is_array() || parts->empty()) continue;
      Finding one_of = {Finding::kCycle, {}};
      for (const Json& part : *parts) one_of = Either(one_of, Find(part));
      found = Both(found, one_of);
    }
    if (found.kind != Finding::kTypes) {
      if (schema.contains("properties") || schema.contains("additionalProperties")) {
        found = Types(JsonType::kObject);
      } else if (schema.contains("items") || schema.contains("prefixItems")) {
        found = Types(JsonType::kArray);
      }
    }
    if (const Json* nullable = FindMember(schema, "nullable");
        nullable != nullptr && *nullable == true && found.kind == Finding::kTypes) {
      found.types = found.types | JsonType::kNull;
    }
    return found;
  }

  static Finding TypeKeyword(const Json& schema) {
    const Json* type = FindMember(schema, "type");
    if (type == nullptr) return {};
    if (!type->is_array()) {
      const std::optional<JsonTypes> types = TypesNamed(*type);
      return types ? Types(*types) : Finding{};
    }
    JsonTypes types;
    for (const Json& name : *type) types = types | TypesNamed(name).value_or(JsonTypes());
    return types.empty() ? Finding{} : Types(types);
  }

  const Json* Target(const Json& schema) const {
    const Json* reference = FindMember(schema, "$ref");
    if (reference == nullptr || !reference->is_string()) return nullptr;
    return Resolve(root_, reference->get_ref<const std::string&>());
  }

  const Json& root_;
  std::unordered_set<const Json*> collected_;
  std::map<std::string, Finding> declared_;
  Finding others_;
  std::vector<const Json*> asked_;  // the schemas that are being asked, outermost first
  int schemas_left_ = 0;            // that the parameter at hand may still look at
};

}  // namespace

JsonTypes ParameterTypes::Of(std::string_view name) const {
  const auto parameter = declared.find(name);
  return parameter == declared.end() ? others : parameter->second;
}

absl::StatusOr<ParameterTypes> ReadParameterTypes(std::string_view schema_json) {
  if (schema_json.empty()) return ParameterTypes();
  const Json schema = Json::parse(schema_json, /*cb=*/nullptr, /*allow_exceptions=*/false);
  if (!schema.is_object() || HasNul(schema_json)) {
    return absl::InvalidArgumentError("the schema of the parameters is not a JSON object");
  }
  return SchemaReader(schema).Read();
}

}  // namespace sheaf
