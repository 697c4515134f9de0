#include "router/text/grammar/schema_types.h"

#include <charconv>
#include <map>
#include <optional>
#include <set>
#include <utility>

namespace sheaf {
namespace {

constexpr int kMaxChain = 64;
constexpr TypeSet kNumberType = kIntegerType | kFractionType;

std::string PercentDecoded(std::string_view text) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    int byte = 0;
    if (text[i] == '%' && i + 2 < text.size() &&
        std::from_chars(text.data() + i + 1, text.data() + i + 3, byte, 16).ptr ==
            text.data() + i + 3) {
      decoded += static_cast<char>(byte);
      i += 2;
    } else {
      decoded += text[i];
    }
  }
  return decoded;
}

std::string PointerDecoded(std::string_view token) {
  std::string decoded;
  for (size_t i = 0; i < token.size(); ++i) {
    if (token[i] == '~' && i + 1 < token.size() && (token[i + 1] == '0' || token[i + 1] == '1')) {
      decoded += token[++i] == '0' ? '~' : '/';
    } else {
      decoded += token[i];
    }
  }
  return decoded;
}

TypeSet TypesWithin(const SchemaJson& root, const SchemaJson& schema, int depth) {
  if (schema.is_boolean()) return schema.get<bool>() ? kAnyType : TypeSet{0};
  if (!schema.is_object() || depth > kMaxChain) return kAnyType;
  TypeSet types = kAnyType;
  if (const auto type = schema.find("type"); type != schema.end()) {
    TypeSet named = 0;
    if (type->is_string()) {
      named = TypeByName(type->get_ref<const std::string&>());
    } else if (type->is_array()) {
      for (const SchemaJson& name : *type) {
        if (name.is_string()) named |= TypeByName(name.get_ref<const std::string&>());
      }
    }
    types &= named;
  }
  if (const auto value = schema.find("const"); value != schema.end()) types &= TypeOfValue(*value);
  if (const auto values = schema.find("enum"); values != schema.end() && values->is_array()) {
    TypeSet listed = 0;
    for (const SchemaJson& value : *values) listed |= TypeOfValue(value);
    types &= listed;
  }
  if (const auto ref = schema.find("$ref"); ref != schema.end() && ref->is_string()) {
    if (const SchemaJson* target = ResolveReference(root, ref->get_ref<const std::string&>())) {
      types &= TypesWithin(root, *target, depth + 1);
    }
  }
  for (const char* keyword : {"anyOf", "oneOf", "allOf"}) {
    const auto list = schema.find(keyword);
    if (list == schema.end() || !list->is_array()) continue;
    const bool all = std::string_view(keyword) == "allOf";
    TypeSet combined = all ? kAnyType : TypeSet{0};
    for (const SchemaJson& part : *list) {
      const TypeSet part_types = TypesWithin(root, part, depth + 1);
      combined = all ? (combined & part_types) : (combined | part_types);
    }
    types &= combined;
  }
  return types;
}

// The schema behind a chain of plain references.
const SchemaJson& Target(const SchemaJson& root, const SchemaJson& schema) {
  const SchemaJson* at = &schema;
  for (int i = 0; i < kMaxChain && at->is_object(); ++i) {
    const auto ref = at->find("$ref");
    if (ref == at->end() || !ref->is_string()) break;
    const SchemaJson* next = ResolveReference(root, ref->get_ref<const std::string&>());
    if (next == nullptr) break;
    at = next;
  }
  return *at;
}

using Values = std::set<std::string>;

// The values of a schema that lists them; numbers are left out: 1 and 1.0 are the same value.
std::optional<Values> ListedValues(const SchemaJson& schema) {
  if (!schema.is_object()) return std::nullopt;
  Values values;
  const auto add = [&values](const SchemaJson& value) {
    if (value.is_number() || value.is_structured()) return false;
    values.insert(value.dump());
    return true;
  };
  if (const auto value = schema.find("const"); value != schema.end()) {
    if (!add(*value)) return std::nullopt;
    return values;
  }
  if (const auto list = schema.find("enum"); list != schema.end() && list->is_array()) {
    for (const SchemaJson& value : *list) {
      if (!add(value)) return std::nullopt;
    }
    return values;
  }
  return std::nullopt;
}

// Required properties that list their values.
std::map<std::string, Values> Discriminators(const SchemaJson& root, const SchemaJson& schema) {
  std::map<std::string, Values> found;
  const auto properties = schema.find("properties");
  const auto required = schema.find("required");
  if (properties == schema.end() || !properties->is_object() || required == schema.end() ||
      !required->is_array()) {
    return found;
  }
  for (const SchemaJson& name : *required) {
    if (!name.is_string()) continue;
    const auto property = properties->find(name.get_ref<const std::string&>());
    if (property == properties->end()) continue;
    if (auto values = ListedValues(Target(root, *property))) {
      found.emplace(name.get<std::string>(), *std::move(values));
    }
  }
  return found;
}

bool HaveNoCommon(const Values& a, const Values& b) {
  for (const std::string& value : a) {
    if (b.contains(value)) return false;
  }
  return true;
}

}  // namespace

TypeSet TypeByName(std::string_view name) {
  if (name == "null") return kNullType;
  if (name == "boolean") return kBooleanType;
  if (name == "integer") return kIntegerType;
  if (name == "number") return kNumberType;
  if (name == "string") return kStringType;
  if (name == "array") return kArrayType;
  if (name == "object") return kObjectType;
  return 0;
}

TypeSet TypeOfValue(const SchemaJson& value) {
  switch (value.type()) {
    case SchemaJson::value_t::null:
      return kNullType;
    case SchemaJson::value_t::boolean:
      return kBooleanType;
    case SchemaJson::value_t::number_integer:
    case SchemaJson::value_t::number_unsigned:
      return kIntegerType;
    case SchemaJson::value_t::number_float:
      return kNumberType;
    case SchemaJson::value_t::string:
      return kStringType;
    case SchemaJson::value_t::array:
      return kArrayType;
    default:
      return kObjectType;
  }
}

const SchemaJson* ResolveReference(const SchemaJson& root, std::string_view reference) {
  if (!reference.starts_with('#')) return nullptr;
  const std::string pointer = PercentDecoded(reference.substr(1));
  if (!pointer.empty() && pointer[0] != '/') return nullptr;
  const SchemaJson* at = &root;
  std::string_view rest = pointer;
  while (!rest.empty()) {
    rest.remove_prefix(1);
    const std::string_view token = rest.substr(0, rest.find('/'));
    rest.remove_prefix(token.size());
    const std::string key = PointerDecoded(token);
    if (at->is_object()) {
      const auto member = at->find(key);
      if (member == at->end()) return nullptr;
      at = &*member;
    } else if (at->is_array()) {
      size_t index = 0;
      const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), index);
      if (error != std::errc() || end != key.data() + key.size() || index >= at->size()) {
        return nullptr;
      }
      at = &(*at)[index];
    } else {
      return nullptr;
    }
  }
  return at;
}

TypeSet TypesOf(const SchemaJson& root, const SchemaJson& schema) {
  return TypesWithin(root, schema, 0);
}

bool AreDisjoint(const SchemaJson& root, const SchemaJson& a, const SchemaJson& b) {
  const TypeSet common = TypesOf(root, a) & TypesOf(root, b);
  if (common == 0) return true;
  const SchemaJson& target_a = Target(root, a);
  const SchemaJson& target_b = Target(root, b);
  const auto values_a = ListedValues(target_a);
  const auto values_b = ListedValues(target_b);
  if (values_a && values_b) return HaveNoCommon(*values_a, *values_b);
  if (common != kObjectType || !target_a.is_object() || !target_b.is_object()) return false;
  const auto by_name_a = Discriminators(root, target_a);
  const auto by_name_b = Discriminators(root, target_b);
  for (const auto& [name, values] : by_name_a) {
    const auto other = by_name_b.find(name);
    if (other != by_name_b.end() && HaveNoCommon(values, other->second)) return true;
  }
  return false;
}

}  // namespace sheaf
