#include "router/text/grammar/raw_value.h"

#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/status.h"
#include "router/text/grammar/regex_text.h"

namespace sheaf {
namespace {

constexpr int kMaxDepth = 32;
constexpr const char* kAnyText = "/(?s:.*)/";

// In parentheses unless it is one.
std::string Joined(const std::vector<std::string>& parts, const char* between) {
  const std::string joined = absl::StrJoin(parts, between);
  return parts.size() > 1 ? absl::StrFormat("(%s)", joined) : joined;
}

// The published grammars of the formats, whole texts.
const std::map<std::string_view, const char*>& FormatRegexes() {
  static const auto* regexes = new std::map<std::string_view, const char*>{
      {"date",
       "[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]"
       "|"
       "30)|02-(?:0[1-9]|1[0-9]|2[0-9]))"},
      {"time",
       "(?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\\.[0-9]+)?(?:[zZ]|[+-](?:[01][0-9]|2["
       "0-"
       "3]):[0-5][0-9])"},
      {"duration",
       "P(?:(?:[0-9]+Y(?:[0-9]+M(?:[0-9]+D)?)?|[0-9]+M(?:[0-9]+D)?|[0-9]+D)(?:T(?:[0-9]+H(?:[0-9]+M"
       "(?:[0-9]+S)?)?|[0-9]+M(?:[0-9]+S)?|[0-9]+S))?|T(?:[0-9]+H(?:[0-9]+M(?:[0-9]+S)?)?|[0-9]+M(?"
       ":"
       "[0-9]+S)?|[0-9]+S)|[0-9]+W)"},
      {"email",
       "[a-zA-Z0-9!#$%&'*+\\-/=?\\^_`{|}~]+(?:\\.[a-zA-Z0-9!#$%&'*+\\-/"
       "=?\\^_`{|}~]+)*@[a-zA-Z0-9](?:"
       "[a-zA-Z0-9\\-]*[a-zA-Z0-9])?(?:\\.[a-zA-Z0-9](?:[a-zA-Z0-9\\-]*[a-zA-Z0-9])?)*"},
      {"hostname",
       "[a-zA-Z0-9](?:[a-zA-Z0-9\\-]{0,61}[a-zA-Z0-9])?(?:\\.[a-zA-Z0-9](?:[a-zA-Z0-9\\-]{0,61}[a-"
       "zA-"
       "Z0-9])?)*"},
      {"ipv4",
       "(?:(?:[0-9]|[1-9][0-9]|25[0-5]|2[0-4][0-9]|1[0-9][0-9])\\.){3}(?:[0-9]|[1-9][0-9]|25[0-5]|"
       "2["
       "0-4][0-9]|1[0-9][0-9])"},
      {"uuid", "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"},
      {"uri",
       "[a-zA-Z][a-zA-Z0-9+.\\-]*://[a-zA-Z0-9\\-._~%]+(?::[0-9]{1,5})?(?:/"
       "[a-zA-Z0-9\\-._~!$&'()*+,;=:@]*)*(?:\\?[a-zA-Z0-9\\-._~!$&'()*+,;=:@/?]*)?(?:#[a-zA-"
       "Z0-9\\-._~!$&'()*+,;=:@/?]*)?"},
      {"ipv6", "(?:[0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}"},
  };
  return *regexes;
}

class Writer {
 public:
  Writer(const SchemaJson& root, std::string_view where) : root_(root), where_(where) {}

  absl::StatusOr<RawStrings> Strings(const SchemaJson& schema, int depth) const {
    if (depth > kMaxDepth) {
      return absl::InvalidArgumentError(
          absl::StrFormat("%s: a string's references are too deep", where_));
    }
    RawStrings any_text{kAnyText, true};
    if (!schema.is_object()) return any_text;
    Conjunction all;
    if (const auto ref = schema.find("$ref"); ref != schema.end()) {
      const SchemaJson* target = ResolveReference(root_, ref->get_ref<const std::string&>());
      SHEAF_ASSIGN_OR_RETURN(RawStrings strings, Strings(*target, depth + 1));
      all.Add(std::move(strings.body), strings.may_be_empty);
    }
    if (const auto value = schema.find("const"); value != schema.end()) {
      const std::string& text = value->get_ref<const std::string&>();
      all.Add(LarkString(text), text.empty());
    }
    if (const auto values = schema.find("enum"); values != schema.end()) {
      std::vector<std::string> strings;
      bool has_empty = false;
      for (const SchemaJson& value : *values) {
        if (!value.is_string()) continue;
        const std::string& text = value.get_ref<const std::string&>();
        has_empty |= text.empty();
        strings.push_back(LarkString(text));
      }
      all.Add(Joined(strings, " | "), has_empty);
    }
    for (const char* keyword : {"anyOf", "allOf"}) {
      const auto list = schema.find(keyword);
      if (list == schema.end()) continue;
      const bool is_all = std::string_view(keyword) == "allOf";
      std::vector<std::string> parts;
      bool may_be_empty = is_all;
      for (const SchemaJson& part : *list) {
        if ((TypesOf(root_, part) & kStringType) == 0) continue;
        SHEAF_ASSIGN_OR_RETURN(RawStrings strings, Strings(part, depth + 1));
        may_be_empty = is_all ? may_be_empty && strings.may_be_empty
                              : may_be_empty || strings.may_be_empty;
        parts.push_back(std::move(strings.body));
      }
      all.Add(Joined(parts, is_all ? " & " : " | "), may_be_empty);
    }
    SHEAF_RETURN_IF_ERROR(AddAssertions(schema, all));
    if (all.bodies.empty()) return any_text;
    return RawStrings{Joined(all.bodies, " & "), all.may_be_empty};
  }

 private:
  // What all must hold.
  struct Conjunction {
    void Add(std::string body, bool body_may_be_empty) {
      bodies.push_back(std::move(body));
      may_be_empty &= body_may_be_empty;
    }
    std::vector<std::string> bodies;
    bool may_be_empty = true;
  };

  absl::Status AddAssertions(const SchemaJson& schema, Conjunction& all) const {
    const auto min_length = schema.find("minLength");
    const auto max_length = schema.find("maxLength");
    if (min_length != schema.end() || max_length != schema.end()) {
      all.Add(absl::StrFormat("/(?s:.{%s,%s})/",
                              min_length == schema.end() ? "0" : min_length->dump(),
                              max_length == schema.end() ? "" : max_length->dump()),
              min_length == schema.end() || *min_length == 0);
    }
    if (const auto pattern = schema.find("pattern"); pattern != schema.end()) {
      SHEAF_ASSIGN_OR_RETURN(const WholeTextRegex whole,
                             PatternForWholeText(pattern->get_ref<const std::string&>(), where_));
      all.Add(LarkRegex(whole.regex), whole.matches_empty);
    }
    const auto format = schema.find("format");
    if (format == schema.end()) return absl::OkStatus();
    const std::string& name = format->get_ref<const std::string&>();
    const auto regex = FormatRegexes().find(name);
    if (regex != FormatRegexes().end()) {
      all.Add(LarkRegex(regex->second), false);
    } else if (name == "date-time") {
      all.Add(LarkRegex(absl::StrFormat("(?:%s)[tT](?:%s)", FormatRegexes().at("date"),
                                        FormatRegexes().at("time"))),
              false);
    }
    return absl::OkStatus();
  }

  const SchemaJson& root_;
  const std::string_view where_;
};

}  // namespace

absl::StatusOr<RawStrings> RawStringsOf(const SchemaJson& root, const SchemaJson& schema,
                                        std::string_view where) {
  return Writer(root, where).Strings(schema, 0);
}

std::string NotReadAs(TypeSet types) {
  std::vector<std::string> words;
  if (types & kNullType) words.push_back("[nN][uU][lL][lL]|[nN][oO][nN][eE]");
  if (types & kBooleanType) words.push_back("[tT][rR][uU][eE]|[fF][aA][lL][sS][eE]");
  std::vector<std::string> beginnings;
  if (types & (kIntegerType | kFractionType)) {
    beginnings.push_back("[+\\-]?(?:[0-9.]|[iI][nN][fF]|[nN][aA][nN])");
  }
  if (types & kObjectType) beginnings.push_back("\\{");
  if (types & kArrayType) beginnings.push_back("\\[");
  // A word before "<" is out too: where the closing tag is text, the lexer would take "null</arg"
  // for the beginning of a longer string and find out too late that it is none.
  if (!words.empty()) {
    beginnings.push_back(absl::StrFormat("(?:%s)\\s*<", absl::StrJoin(words, "|")));
  }
  std::string readings = absl::StrFormat("(?:%s)(?s:.*)", absl::StrJoin(beginnings, "|"));
  if (!words.empty()) {
    readings += absl::StrFormat("|(?:%s)\\s*", absl::StrJoin(words, "|"));
  }
  return absl::StrFormat("~/\\s*(?:%s)/", readings);
}

}  // namespace sheaf
