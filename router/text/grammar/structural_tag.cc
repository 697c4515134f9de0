#include "router/text/grammar/structural_tag.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "router/text/grammar/json_schema.h"
#include "router/text/grammar/regex_text.h"

namespace sheaf {
namespace {

constexpr size_t kMaxParts = 1'000;  // of one list

// A regular expression that is exactly `text`.
std::string Escaped(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if (std::string_view("\\.+*?()|[]{}^$#&-~/").find(c) != std::string_view::npos) escaped += '\\';
    escaped += c;
  }
  return escaped;
}

class StructuralTagWriter {
 public:
  StructuralTagWriter(bool any_whitespace, const MarkupTokens& markup)
      : any_whitespace_(any_whitespace), lark_(markup) {}

  absl::StatusOr<std::string> Write(std::string_view text) {
    SHEAF_ASSIGN_OR_RETURN(const SchemaJson tag, ParseSchemaText(text, "structural tag: "));
    if (!tag.is_object()) return Error("$", "must be an object");
    if (const auto format = tag.find("format"); format != tag.end()) {
      SHEAF_ASSIGN_OR_RETURN(const std::string start, Format(*format, "$.format", /*last=*/true));
      return lark_.Finish(start);
    }
    if (tag.contains("structures")) {
      SHEAF_ASSIGN_OR_RETURN(const std::string start, Structures(tag));
      return lark_.Finish(start);
    }
    return Error("$", "has neither \"format\" nor \"structures\"");
  }

 private:
  struct Tag {
    std::string begin;
    std::string rest;  // a rule: all behind `begin`
  };

  static absl::Status Error(const std::string& path, std::string_view what) {
    return absl::InvalidArgumentError(absl::StrFormat("structural tag %s: %s", path, what));
  }

  static absl::StatusOr<std::string> String(const SchemaJson& object, const char* key,
                                            const std::string& path) {
    const auto value = object.find(key);
    if (value == object.end() || !value->is_string()) {
      return Error(absl::StrFormat("%s.%s", path, key), "must be a string");
    }
    return value->get<std::string>();
  }

  static absl::StatusOr<const SchemaJson*> List(const SchemaJson& object, const char* key,
                                                const std::string& path) {
    const auto value = object.find(key);
    if (value == object.end() || !value->is_array() || value->empty() ||
        value->size() > kMaxParts) {
      return Error(absl::StrFormat("%s.%s", path, key),
                   absl::StrFormat("must be a list of 1 to %d parts", kMaxParts));
    }
    return &*value;
  }

  static bool Flag(const SchemaJson& object, const char* key) {
    const auto value = object.find(key);
    return value != object.end() && *value == SchemaJson(true);
  }

  // The older form is triggered tags whose content is a schema.
  absl::StatusOr<std::string> Structures(const SchemaJson& root) {
    SHEAF_ASSIGN_OR_RETURN(const SchemaJson* structures, List(root, "structures", "$"));
    std::vector<Tag> tags;
    for (size_t i = 0; i < structures->size(); ++i) {
      const std::string path = absl::StrFormat("$.structures[%d]", i);
      const SchemaJson& structure = (*structures)[i];
      if (!structure.is_object()) return Error(path, "must be an object");
      SHEAF_ASSIGN_OR_RETURN(std::string begin, String(structure, "begin", path));
      SHEAF_ASSIGN_OR_RETURN(const std::string end, String(structure, "end", path));
      const auto schema = structure.find("schema");
      SHEAF_ASSIGN_OR_RETURN(
          const std::string content,
          Schema(schema == structure.end() ? SchemaJson::object() : *schema, path + ".schema"));
      tags.push_back(
          {std::move(begin), lark_.Rule(absl::StrFormat("%s %s", content, lark_.Literal(end)))});
    }
    return Triggered(root, tags, "$", /*at_least_one=*/false, /*only_one=*/false);
  }

  absl::StatusOr<std::string> Schema(const SchemaJson& schema, const std::string& path) {
    SHEAF_ASSIGN_OR_RETURN(
        SchemaJson prepared,
        PrepareSchema(schema.dump(), absl::StrFormat("structural tag %s: ", path)));
    return lark_.Rule(LarkJson(SchemaForGrammar(std::move(prepared), any_whitespace_)));
  }

  // `last`: nothing follows, so any_text may be the rest of the output.
  absl::StatusOr<std::string> Format(const SchemaJson& format, const std::string& path, bool last) {
    if (!format.is_object()) return Error(path, "must be an object");
    SHEAF_ASSIGN_OR_RETURN(const std::string type, String(format, "type", path));
    if (type == "const_string") {
      SHEAF_ASSIGN_OR_RETURN(const std::string value, String(format, "value", path));
      return lark_.Rule(lark_.Literal(value));
    }
    if (type == "json_schema") {
      const auto schema = format.find("json_schema");
      if (schema == format.end()) return Error(path, "has no \"json_schema\"");
      return Schema(*schema, path + ".json_schema");
    }
    if (type == "regex") return Regex(format, path);
    if (type == "any_text") {
      if (format.contains("excludes") && !format["excludes"].empty()) {
        return Error(path + ".excludes", "is not supported");
      }
      if (!last) return Error(path, "any_text can only stand at the end, or alone in a tag");
      return lark_.Rule(absl::StrFormat("(%s)?", lark_.Terminal("/(?s:.+)/")));
    }
    if (type == "sequence") return Sequence(format, path, last);
    if (type == "or") return Or(format, path, last);
    if (type == "tag") {
      SHEAF_ASSIGN_OR_RETURN(const Tag tag, TagOf(format, path, last));
      return lark_.Rule(absl::StrFormat("%s %s", lark_.Literal(tag.begin), tag.rest));
    }
    if (type == "triggered_tags") {
      if (!last) return Error(path, "triggered_tags can only stand at the end");
      SHEAF_ASSIGN_OR_RETURN(const std::vector<Tag> tags, Tags(format, path));
      return Triggered(format, tags, path, Flag(format, "at_least_one"),
                       Flag(format, "stop_after_first"));
    }
    if (type == "tags_with_separator") return Separated(format, path);
    return Error(path + ".type", absl::StrFormat("\"%s\" is not supported", type));
  }

  absl::StatusOr<std::string> Regex(const SchemaJson& format, const std::string& path) {
    SHEAF_ASSIGN_OR_RETURN(const std::string pattern, String(format, "pattern", path));
    SHEAF_ASSIGN_OR_RETURN(
        const std::string regex,
        CheckedRegex(pattern, absl::StrFormat("structural tag %s.pattern", path)));
    return lark_.Rule(LarkRegex(regex));
  }

  absl::StatusOr<std::string> Sequence(const SchemaJson& format, const std::string& path,
                                       bool last) {
    SHEAF_ASSIGN_OR_RETURN(const SchemaJson* elements, List(format, "elements", path));
    std::string sequence;
    for (size_t i = 0; i < elements->size(); ++i) {
      SHEAF_ASSIGN_OR_RETURN(const std::string part,
                             Format((*elements)[i], absl::StrFormat("%s.elements[%d]", path, i),
                                    last && i + 1 == elements->size()));
      sequence += (sequence.empty() ? "" : " ") + part;
    }
    return lark_.Rule(sequence);
  }

  absl::StatusOr<std::string> Or(const SchemaJson& format, const std::string& path, bool last) {
    SHEAF_ASSIGN_OR_RETURN(const SchemaJson* elements, List(format, "elements", path));
    std::string alternatives;
    for (size_t i = 0; i < elements->size(); ++i) {
      SHEAF_ASSIGN_OR_RETURN(
          const std::string part,
          Format((*elements)[i], absl::StrFormat("%s.elements[%d]", path, i), last));
      alternatives += (alternatives.empty() ? "" : " | ") + part;
    }
    return lark_.Rule(alternatives);
  }

  absl::StatusOr<std::vector<Tag>> Tags(const SchemaJson& format, const std::string& path) {
    SHEAF_ASSIGN_OR_RETURN(const SchemaJson* list, List(format, "tags", path));
    std::vector<Tag> tags;
    for (size_t i = 0; i < list->size(); ++i) {
      const std::string tag_path = absl::StrFormat("%s.tags[%d]", path, i);
      if (!(*list)[i].is_object()) return Error(tag_path, "must be an object");
      SHEAF_ASSIGN_OR_RETURN(Tag tag, TagOf((*list)[i], tag_path, /*last=*/false));
      tags.push_back(std::move(tag));
    }
    return tags;
  }

  absl::StatusOr<Tag> TagOf(const SchemaJson& tag, const std::string& path, bool last) {
    SHEAF_ASSIGN_OR_RETURN(std::string begin, String(tag, "begin", path));
    SHEAF_ASSIGN_OR_RETURN(const std::string end, String(tag, "end", path));
    const auto content = tag.find("content");
    if (content == tag.end() || !content->is_object()) {
      return Error(path + ".content", "must be an object");
    }
    const auto type = content->find("type");
    if (type != content->end() && *type == "any_text" && !end.empty()) {
      return Tag{std::move(begin), TextUpTo(end)};
    }
    SHEAF_ASSIGN_OR_RETURN(const std::string inner,
                           Format(*content, path + ".content", last && end.empty()));
    return Tag{std::move(begin), lark_.Rule(absl::StrFormat("%s %s", inner, lark_.Literal(end)))};
  }

  // Free text and `end`. Where `end` begins with a token, text cannot run into it.
  std::string TextUpTo(const std::string& end) {
    if (lark_.HasMarkup(end)) {
      return lark_.Rule(
          absl::StrFormat("(%s)? %s", lark_.Terminal("/(?s:.+)/"), lark_.Literal(end)));
    }
    return lark_.LazyRule(absl::StrFormat("/(?s:.*)%s/", Escaped(end)));
  }

  absl::StatusOr<std::string> Triggered(const SchemaJson& object, const std::vector<Tag>& tags,
                                        const std::string& path, bool at_least_one, bool only_one) {
    SHEAF_ASSIGN_OR_RETURN(const SchemaJson* triggers, List(object, "triggers", path));
    std::vector<bool> used(tags.size(), false);
    std::string alternatives;
    std::string excluded;
    for (size_t i = 0; i < triggers->size(); ++i) {
      const std::string trigger_path = absl::StrFormat("%s.triggers[%d]", path, i);
      const SchemaJson& value = (*triggers)[i];
      if (!value.is_string() || value.get_ref<const std::string&>().empty()) {
        return Error(trigger_path, "must be a string that is not empty");
      }
      const std::string& trigger = value.get_ref<const std::string&>();
      std::string rests;
      for (size_t j = 0; j < tags.size(); ++j) {
        if (!tags[j].begin.starts_with(trigger)) continue;
        used[j] = true;
        const std::string after = tags[j].begin.substr(trigger.size());
        rests += absl::StrFormat("%s%s %s", rests.empty() ? "" : " | ", lark_.Literal(after),
                                 tags[j].rest);
      }
      if (rests.empty()) return Error(trigger_path, "no tag begins with it");
      const bool has_markup = lark_.HasMarkup(trigger);
      const std::string up_to =
          has_markup ? absl::StrFormat("(%s)? %s", FreeText(), lark_.Literal(trigger))
                     : lark_.LazyRule(absl::StrFormat("/(?s:.*)%s/", Escaped(trigger)));
      if (!has_markup) {
        excluded += absl::StrFormat(" & ~/(?s:.*)%s(?s:.*)/", Escaped(trigger));
      }
      alternatives += absl::StrFormat("%s%s (%s)", alternatives.empty() ? "" : " | ", up_to, rests);
    }
    for (size_t j = 0; j < tags.size(); ++j) {
      if (!used[j]) {
        return Error(path, absl::StrFormat("no trigger begins the tag \"%s\"", tags[j].begin));
      }
    }
    const std::string part = lark_.Rule(alternatives);
    const std::string tail = absl::StrFormat("(%s)?", lark_.Terminal("/(?s:.+)/" + excluded));
    if (only_one) {
      return lark_.Rule(at_least_one ? part : absl::StrFormat("%s | %s", part, tail));
    }
    return lark_.Rule(absl::StrFormat("%s%s %s", part, at_least_one ? "+" : "*", tail));
  }

  std::string FreeText() { return lark_.Terminal("/(?s:.+)/"); }

  absl::StatusOr<std::string> Separated(const SchemaJson& format, const std::string& path) {
    SHEAF_ASSIGN_OR_RETURN(const std::vector<Tag> tags, Tags(format, path));
    SHEAF_ASSIGN_OR_RETURN(const std::string separator, String(format, "separator", path));
    std::string alternatives;
    for (const Tag& tag : tags) {
      alternatives += absl::StrFormat("%s%s %s", alternatives.empty() ? "" : " | ",
                                      lark_.Literal(tag.begin), tag.rest);
    }
    const std::string one = lark_.Rule(alternatives);
    std::string all = one;
    if (!Flag(format, "stop_after_first")) {
      all += absl::StrFormat(" (%s %s)*", lark_.Literal(separator), one);
    }
    return lark_.Rule(Flag(format, "at_least_one") ? all : absl::StrFormat("(%s)?", all));
  }

  const bool any_whitespace_;
  LarkWriter lark_;
};

}  // namespace

absl::StatusOr<std::string> StructuralTagLark(std::string_view text, bool any_whitespace,
                                              const MarkupTokens& markup) {
  return StructuralTagWriter(any_whitespace, markup).Write(text);
}

}  // namespace sheaf
