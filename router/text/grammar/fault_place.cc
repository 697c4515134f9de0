#include "router/text/grammar/fault_place.h"

#include <chrono>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "router/text/grammar/json_schema.h"

namespace sheaf {
namespace {

using Clock = std::chrono::steady_clock;
using Compiles = std::function<bool(const GrammarSpec&)>;

constexpr auto kTime = std::chrono::milliseconds(200);

struct Part {
  std::string path;
  const SchemaJson* schema = nullptr;
};

std::vector<Part> PartsOf(const Part& whole) {
  std::vector<Part> parts;
  if (!whole.schema->is_object()) return parts;
  for (const char* keyword : {"properties", "patternProperties"}) {
    const auto map = whole.schema->find(keyword);
    if (map == whole.schema->end()) continue;
    for (auto member = map->begin(); member != map->end(); ++member) {
      parts.push_back({absl::StrFormat("%s.%s.%s", whole.path, keyword, member.key()), &*member});
    }
  }
  for (const char* keyword : {"items", "prefixItems", "additionalProperties", "anyOf", "oneOf"}) {
    const auto member = whole.schema->find(keyword);
    if (member == whole.schema->end()) continue;
    const std::string path = absl::StrFormat("%s.%s", whole.path, keyword);
    if (!member->is_array()) {
      parts.push_back({path, &*member});
      continue;
    }
    for (size_t i = 0; i < member->size(); ++i) {
      parts.push_back({absl::StrFormat("%s[%d]", path, i), &(*member)[i]});
    }
  }
  return parts;
}

std::string SchemaFault(const GrammarSpec& spec, const Compiles& compiles) {
  const Clock::time_point end = Clock::now() + kTime;
  const auto root = ParseSchemaText(spec.text, "");
  if (!root.ok()) return "";
  Part fault{"$", &*root};
  for (bool deeper = true; deeper;) {
    deeper = false;
    for (Part& part : PartsOf(fault)) {
      if (Clock::now() > end) return "";
      if (!part.schema->is_object()) continue;
      GrammarSpec alone = spec;
      SchemaJson document = *part.schema;
      for (const char* section : {"$defs", "definitions"}) {
        if (root->contains(section)) document[section] = (*root)[section];
      }
      alone.text = document.dump();
      if (compiles(alone)) continue;
      fault = std::move(part);
      deeper = true;
      break;
    }
  }
  return fault.path;
}

std::string ToolFault(const GrammarSpec& spec, const Compiles& compiles) {
  const Clock::time_point end = Clock::now() + kTime;
  for (const ToolCallGrammar::Tool& tool : spec.tool_calls.tools) {
    if (Clock::now() > end) return "";
    GrammarSpec alone = spec;
    alone.tool_calls.tools = {tool};
    alone.tool_calls.or_answer = nullptr;
    if (!compiles(alone)) return absl::StrFormat("tool \"%s\"", tool.name);
  }
  const auto& answer = spec.tool_calls.or_answer;
  if (answer != nullptr && Clock::now() < end && !compiles(*answer)) {
    const std::string place = FaultPlace(*answer, compiles);
    return place.empty() ? "answer" : "answer " + place;
  }
  return "";
}

}  // namespace

std::string FaultPlace(const GrammarSpec& spec, const Compiles& compiles) {
  if (spec.kind == GrammarKind::kJsonSchema) return SchemaFault(spec, compiles);
  if (spec.kind == GrammarKind::kToolCalls) return ToolFault(spec, compiles);
  return "";
}

}  // namespace sheaf
