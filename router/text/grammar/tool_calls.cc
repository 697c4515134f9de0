#include "router/text/grammar/tool_calls.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "router/text/grammar/json_schema.h"
#include "router/text/grammar/raw_value.h"

namespace sheaf {
namespace {

constexpr size_t kMaxTools = 1'000;
constexpr int kMaxCalls = 1'000;
constexpr size_t kMaxRules = 8'000;  // a parameter is one or two
constexpr const char* kOpen = "<tool_call>";
constexpr const char* kClose = "</tool_call>";
constexpr const char* kCloseValue = "</arg_value>";

std::string Quantifier(int min, int max) {
  if (max < 0) return min == 0 ? "*" : absl::StrFormat("{%d,}", min);
  return absl::StrFormat("{%d,%d}", min, max);
}

// The members of $defs and definitions that a schema needs, by what they are in `root`.
using Definitions = std::set<const SchemaJson*>;

absl::Status CollectDefinitions(const SchemaJson& root, const SchemaJson& schema,
                                const std::string& where, Definitions& found) {
  if (schema.is_array()) {
    for (const SchemaJson& part : schema) {
      SHEAF_RETURN_IF_ERROR(CollectDefinitions(root, part, where, found));
    }
  }
  if (!schema.is_object()) return absl::OkStatus();
  for (auto member = schema.begin(); member != schema.end(); ++member) {
    if (member.key() != "$ref" || !member->is_string()) {
      SHEAF_RETURN_IF_ERROR(CollectDefinitions(root, *member, where, found));
      continue;
    }
    const std::string& reference = member->get_ref<const std::string&>();
    const bool is_definition =
        reference.starts_with("#/$defs/") || reference.starts_with("#/definitions/");
    const size_t name_end = reference.find('/', reference.find('/', 2) + 1);
    const SchemaJson* definition =
        is_definition ? ResolveReference(root, reference.substr(0, name_end)) : nullptr;
    if (definition == nullptr) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "%s: \"%s\": a tool's references must point into $defs", where, reference));
    }
    if (found.insert(definition).second) {
      SHEAF_RETURN_IF_ERROR(CollectDefinitions(root, *definition, where, found));
    }
  }
  return absl::OkStatus();
}

void CopyDefinitions(const SchemaJson& root, const Definitions& wanted, SchemaJson& document) {
  for (const char* section : {"$defs", "definitions"}) {
    const auto definitions = root.find(section);
    if (definitions == root.end() || !definitions->is_object()) continue;
    for (auto member = definitions->begin(); member != definitions->end(); ++member) {
      if (wanted.contains(&*member)) document[section][member.key()] = *member;
    }
  }
}

class ToolCallsWriter {
 public:
  ToolCallsWriter(const ToolCallGrammar& grammar, std::string_view answer_lark,
                  const MarkupTokens& markup)
      : grammar_(grammar),
        answer_lark_(answer_lark),
        lark_(markup),
        line_end_(grammar.format == ToolCallFormat::kGlm45 ? " \"\\n\"" : ""),
        close_value_is_token_(lark_.FindToken(kCloseValue) != nullptr) {}

  absl::StatusOr<std::string> Write() {
    SHEAF_RETURN_IF_ERROR(CheckLimits());
    std::string bodies;
    for (const ToolCallGrammar::Tool& tool : grammar_.tools) {
      SHEAF_ASSIGN_OR_RETURN(const std::string arguments, Arguments(tool));
      const std::string body = lark_.Rule(absl::StrFormat(
          "%s%s%s %s", LarkString(tool.name), line_end_, arguments, lark_.Literal(kClose)));
      bodies += (bodies.empty() ? "" : " | ") + body;
      if (lark_.num_rules() > kMaxRules) {
        return absl::InvalidArgumentError(absl::StrFormat(
            "tool \"%s\": with it, the tools' parameters are more than one grammar holds",
            tool.name));
      }
    }
    if (grammar_.or_answer != nullptr) return lark_.Finish(CallsOrAnswer(bodies));
    if (bodies.empty()) return lark_.Finish(grammar_.text_around ? FreeText() : "\"\"");
    const std::string body = lark_.Rule(bodies);
    return lark_.Finish(grammar_.text_around ? WithText(body)
                                             : CallsOnly(body, grammar_.min_calls));
  }

 private:
  absl::Status CheckLimits() const {
    if (grammar_.tools.size() > kMaxTools) {
      return absl::InvalidArgumentError(
          absl::StrFormat("%d tools, more than the limit of %d", grammar_.tools.size(), kMaxTools));
    }
    const int min = grammar_.min_calls;
    const int max = grammar_.max_calls;
    if (min < 0 || min > kMaxCalls || max > kMaxCalls || (max >= 0 && max < min)) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "between %d and %d calls cannot be asked for (at most %d)", min, max, kMaxCalls));
    }
    if (grammar_.tools.empty() && min > 0) {
      return absl::InvalidArgumentError("a call is required, but there are no tools");
    }
    if (grammar_.or_answer != nullptr && grammar_.text_around) {
      return absl::InvalidArgumentError(
          "free text around calls and a grammar for the answer exclude each other");
    }
    for (const ToolCallGrammar::Tool& tool : grammar_.tools) {
      if (tool.name.empty()) return absl::InvalidArgumentError("a tool has an empty name");
      if (tool.name.find_first_of("\n<") != std::string::npos) {
        return absl::InvalidArgumentError(
            absl::StrFormat("tool %s: its name cannot be written in the model's call format",
                            LarkString(tool.name)));
      }
    }
    return absl::OkStatus();
  }

  // No call at all is the answer's alternative. The answer comes last on the first line, so that
  // the lines of a client's grammar keep their numbers.
  std::string CallsOrAnswer(const std::string& bodies) {
    std::string calls;
    if (!bodies.empty() && grammar_.max_calls != 0) {
      const std::string body = lark_.Rule(bodies);
      calls = lark_.Rule(CallsOnly(body, std::max(grammar_.min_calls, 1))) + " | ";
    }
    return absl::StrFormat("%s%%lark {%s\n}", calls, answer_lark_);
  }

  std::string CallsOnly(const std::string& body, int min) {
    const int max = grammar_.max_calls;
    if (max == 0) return "\"\"";
    const bool lines = grammar_.format == ToolCallFormat::kGlm45;
    const std::string call = lark_.Rule(absl::StrFormat("%s %s", lark_.Literal(kOpen), body));
    std::string calls = call;
    if (max != 1) {
      const std::string next = lines ? absl::StrFormat("(\"\\n\" %s)", call) : call;
      calls += " " + next + Quantifier(std::max(min - 1, 0), max < 0 ? -1 : max - 1);
    }
    // The models write a line's end between the thoughts and the first call.
    if (lines) calls = "\"\\n\"? " + calls;
    return min == 0 ? absl::StrFormat("(%s)?", calls) : calls;
  }

  std::string FreeText() { return absl::StrFormat("(%s)?", lark_.Terminal("/(?s:.+)/")); }

  std::string WithText(const std::string& body) {
    const int max = grammar_.max_calls;
    const std::string quantifier = Quantifier(grammar_.min_calls, max);
    if (const TokenId* open = lark_.FindToken(kOpen)) {
      const std::string text = FreeText();
      if (max == 0) return text;
      return absl::StrFormat("%s (%s %s %s)%s", text, LarkToken(*open), body, text, quantifier);
    }
    const std::string tail = absl::StrFormat(
        "(%s)?", lark_.Terminal(absl::StrFormat("/(?s:.+)/ & ~/(?s:.*)%s(?s:.*)/", kOpen)));
    if (max == 0) return tail;
    const std::string up_to_call = lark_.LazyRule(absl::StrFormat("/(?s:.*)%s/", kOpen));
    return absl::StrFormat("(%s %s)%s %s", up_to_call, body, quantifier, tail);
  }

  // Begins with a blank, if anything.
  absl::StatusOr<std::string> Arguments(const ToolCallGrammar::Tool& tool) {
    if (!tool.strict) {
      return absl::StrFormat(" %s*", Argument(AnyKey({}), FreeValue()));
    }
    if (tool.parameters_schema_json.empty()) return std::string();
    const std::string where = absl::StrFormat("tool \"%s\": ", tool.name);
    SHEAF_ASSIGN_OR_RETURN(const SchemaJson root,
                           PrepareSchema(tool.parameters_schema_json, where));
    SHEAF_RETURN_IF_ERROR(CheckRoot(root, where));
    const auto properties = root.find("properties");
    std::set<std::string> required;
    if (const auto names = root.find("required"); names != root.end()) {
      for (const SchemaJson& name : *names) required.insert(name.get<std::string>());
    }
    std::string arguments;
    std::set<std::string> declared;
    if (properties != root.end()) {
      for (auto property = properties->begin(); property != properties->end(); ++property) {
        const std::string& name = property.key();
        declared.insert(name);
        const std::string path = absl::StrFormat("%s$.properties.%s", where, name);
        const bool is_required = required.erase(name) > 0;
        if (*property == SchemaJson(false)) {
          if (is_required) {
            return absl::InvalidArgumentError(path + ": no value is possible, but it is required");
          }
          continue;
        }
        if (name.find('<') != std::string::npos) {
          return absl::InvalidArgumentError(path + ": the name cannot be written in a tool call");
        }
        SHEAF_ASSIGN_OR_RETURN(const std::string value, Value(root, *property, path));
        arguments +=
            absl::StrFormat(" %s%s", Argument(LarkString(name), value), is_required ? "" : "?");
      }
    }
    SHEAF_ASSIGN_OR_RETURN(const std::string more, MoreArguments(root, required, declared, where));
    return arguments + more;
  }

  // Required names without a property, and the keys of additionalProperties.
  absl::StatusOr<std::string> MoreArguments(const SchemaJson& root,
                                            const std::set<std::string>& required,
                                            std::set<std::string> declared,
                                            const std::string& where) {
    const auto additional = root.find("additionalProperties");
    const bool is_given = additional != root.end();
    std::string value = FreeValue();
    if (is_given && additional->is_object()) {
      SHEAF_ASSIGN_OR_RETURN(value, Value(root, *additional, where + "$.additionalProperties"));
    }
    std::string arguments;
    for (const std::string& name : required) {
      declared.insert(name);
      arguments += absl::StrFormat(" %s", Argument(LarkString(name), value));
    }
    if (is_given && *additional != SchemaJson(false)) {
      arguments += absl::StrFormat(" %s*", Argument(AnyKey(declared), value));
    }
    return arguments;
  }

  absl::Status CheckRoot(const SchemaJson& root, const std::string& where) const {
    if (!root.is_object()) {
      return absl::InvalidArgumentError(where + "$: the parameters must be an object schema");
    }
    for (const char* keyword : {"anyOf", "allOf", "$ref", "const", "enum", "patternProperties"}) {
      if (root.contains(keyword)) {
        return absl::InvalidArgumentError(absl::StrFormat(
            "%s$.%s: not supported at the root of a strict tool's parameters: they must be an "
            "object with properties",
            where, keyword));
      }
    }
    if ((TypesOf(root, root) & kObjectType) == 0) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "%s$.type: the parameters must be an object, not %s", where, root["type"].dump()));
    }
    const size_t required = root.contains("required") ? root["required"].size() : 0;
    const size_t properties = root.contains("properties") ? root["properties"].size() : 0;
    const auto fewest = root.find("minProperties");
    if (fewest != root.end() && *fewest > required) {
      return absl::InvalidArgumentError(
          where + "$.minProperties: only supported up to the number of required properties");
    }
    const auto most = root.find("maxProperties");
    if (most != root.end() && *most < properties) {
      return absl::InvalidArgumentError(
          where + "$.maxProperties: only supported from the number of properties on");
    }
    return absl::OkStatus();
  }

  // A rule's name.
  std::string Argument(const std::string& key, const std::string& value) {
    return lark_.Rule(absl::StrFormat("%s %s %s%s %s %s%s", lark_.Literal("<arg_key>"), key,
                                      lark_.Literal("</arg_key>"), line_end_,
                                      lark_.Literal("<arg_value>"), value, line_end_));
  }

  // A key that is none of `declared`; no tag begins within it.
  std::string AnyKey(const std::set<std::string>& declared) {
    std::string body = "/[^<\\n]+/";
    for (const std::string& name : declared) {
      if (!name.empty()) body += " & ~" + LarkString(name);
    }
    return lark_.Terminal(body);
  }

  std::string FreeValue() { return RawValue({"/(?s:.*)/", true}); }

  // A raw value with its closing tag. A tag that is text is part of the terminal: where a value
  // ends is then plain.
  std::string RawValue(const RawStrings& strings) {
    if (close_value_is_token_) {
      // A terminal is never empty.
      const std::string filled = lark_.Terminal(strings.body + " & /(?s:.+)/");
      return lark_.Rule(absl::StrFormat(strings.may_be_empty ? "(%s | \"\") %s" : "%s %s", filled,
                                        lark_.Literal(kCloseValue)));
    }
    return lark_.Terminal(absl::StrFormat("((%s) & ~/(?s:.*)<\\/arg_value>(?s:.*)/) %s",
                                          strings.body, LarkString(kCloseValue)));
  }

  absl::StatusOr<std::string> Value(const SchemaJson& root, const SchemaJson& schema,
                                    const std::string& path) {
    // Without any word about types a value is a string.
    TypeSet types = TypesOf(root, schema);
    if (types == kAnyType) types = kStringType;
    std::string alternatives;
    if (types & kStringType) {
      SHEAF_ASSIGN_OR_RETURN(RawStrings strings, RawStringsOf(root, schema, path));
      const TypeSet others = types & ~kStringType;
      if (others != 0) {
        strings.body = absl::StrFormat("(%s) & %s", strings.body, NotReadAs(others));
      }
      alternatives = RawValue(strings);
    }
    if (types & ~kStringType) {
      SHEAF_ASSIGN_OR_RETURN(const std::string json,
                             JsonValue(root, schema, types & ~kStringType, path));
      const std::string value =
          lark_.Rule(absl::StrFormat("%s %s", json, lark_.Literal(kCloseValue)));
      alternatives += (alternatives.empty() ? "" : " | ") + value;
    }
    return lark_.Rule(alternatives);
  }

  // `schema` for the given types alone, as a document of its own.
  absl::StatusOr<std::string> JsonValue(const SchemaJson& root, const SchemaJson& schema,
                                        TypeSet types, const std::string& path) {
    SchemaJson document = schema;
    if (TypesOf(root, schema) & kStringType) {
      SchemaJson names = SchemaJson::array();
      for (const char* name : {"null", "boolean", "array", "object"}) {
        if (types & TypeByName(name)) names.push_back(name);
      }
      if (types & kFractionType) {
        names.push_back("number");
      } else if (types & kIntegerType) {
        names.push_back("integer");
      }
      document = {{"allOf", {schema, {{"type", names}}}}};
    }
    Definitions definitions;
    SHEAF_RETURN_IF_ERROR(CollectDefinitions(root, schema, path, definitions));
    CopyDefinitions(root, definitions, document);
    return lark_.Rule(LarkJson(SchemaForGrammar(std::move(document), /*any_whitespace=*/false)));
  }

  const ToolCallGrammar& grammar_;
  const std::string_view answer_lark_;
  LarkWriter lark_;
  const std::string line_end_;
  const bool close_value_is_token_;
};

}  // namespace

absl::StatusOr<std::string> ToolCallsLark(const ToolCallGrammar& grammar,
                                          std::string_view answer_lark,
                                          const MarkupTokens& markup) {
  return ToolCallsWriter(grammar, answer_lark, markup).Write();
}

}  // namespace sheaf
