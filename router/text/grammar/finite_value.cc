#include "router/text/grammar/finite_value.h"

#include <algorithm>
#include <set>

#include "absl/strings/str_format.h"

namespace sheaf {
namespace {

constexpr int kMaxRounds = 64;

// The least fixed point over the targets of references.
class FiniteValues {
 public:
  FiniteValues(const SchemaJson& root, const ReferenceTargets& targets)
      : root_(root), targets_(targets) {}

  // False when the recursion is deeper than the rounds.
  bool Search() {
    for (int round = 0; round < kMaxRounds; ++round) {
      bool changed = false;
      for (const auto& [target, path] : targets_) {
        if (!Contains(target) && Has(*target)) {
          finite_.insert(target);
          changed = true;
        }
      }
      if (!changed) return true;
    }
    return false;
  }

  bool Contains(const SchemaJson* target) const { return finite_.contains(target); }

  bool Has(const SchemaJson& schema) const {
    if (schema.is_boolean()) return schema.get<bool>();
    if (!schema.is_object()) return true;
    if (const auto ref = schema.find("$ref"); ref != schema.end()) {
      if (!Contains(ResolveReference(root_, ref->get_ref<const std::string&>()))) return false;
    }
    for (const char* keyword : {"anyOf", "oneOf", "allOf"}) {
      const auto list = schema.find(keyword);
      if (list == schema.end()) continue;
      const auto has = [this](const SchemaJson& part) { return Has(part); };
      const bool holds = std::string_view(keyword) == "allOf"
                             ? std::all_of(list->begin(), list->end(), has)
                             : std::any_of(list->begin(), list->end(), has);
      if (!holds) return false;
    }
    const TypeSet types = TypesOf(root_, schema);
    if ((types & ~(kObjectType | kArrayType)) != 0) return true;
    return ((types & kObjectType) != 0 && HasObject(schema)) ||
           ((types & kArrayType) != 0 && HasArray(schema));
  }

 private:
  bool HasObject(const SchemaJson& schema) const {
    const auto required = schema.find("required");
    const auto properties = schema.find("properties");
    if (required == schema.end() || properties == schema.end()) return true;
    return std::all_of(required->begin(), required->end(), [&](const SchemaJson& name) {
      const auto property = properties->find(name.get_ref<const std::string&>());
      return property == properties->end() || Has(*property);
    });
  }

  bool HasArray(const SchemaJson& schema) const {
    const auto min_items = schema.find("minItems");
    const size_t needed = min_items == schema.end() ? 0 : min_items->get<size_t>();
    const auto items = schema.find("items");
    const bool items_are_listed = items != schema.end() && items->is_array();
    const auto prefix = items_are_listed ? items : schema.find("prefixItems");
    const size_t in_prefix = prefix == schema.end() ? 0 : prefix->size();
    for (size_t i = 0; i < std::min(needed, in_prefix); ++i) {
      if (!Has((*prefix)[i])) return false;
    }
    return needed <= in_prefix || items == schema.end() || items_are_listed || Has(*items);
  }

  const SchemaJson& root_;
  const ReferenceTargets& targets_;
  std::set<const SchemaJson*> finite_;
};

}  // namespace

absl::Status CheckFiniteValue(const SchemaJson& root, const ReferenceTargets& targets,
                              std::string_view where) {
  FiniteValues values(root, targets);
  if (!values.Search()) {
    return absl::InvalidArgumentError(absl::StrFormat("%s$: references recurse too deeply", where));
  }
  if (values.Has(root)) return absl::OkStatus();
  for (const auto& [target, path] : targets) {
    if (target->is_object() && !values.Contains(target)) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "%s%s: no value is possible: it refers to itself without an end", where, path));
    }
  }
  return absl::InvalidArgumentError(
      absl::StrFormat("%s$: no value is possible: it is, or needs, the schema false", where));
}

}  // namespace sheaf
