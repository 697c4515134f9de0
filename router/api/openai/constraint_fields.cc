#include "router/api/openai/constraint_fields.h"

#include <optional>
#include <string>
#include <utility>

namespace sheaf {
namespace {

// A schema or structural tag may come as an object or as its text.
std::string ObjectOrText(const Json& value) {
  return value.is_string() ? value.get<std::string>() : JsonText(value);
}

// Collects what is asked for; more than one is an error.
class ConstraintReader {
 public:
  ConstraintReader(JsonFields& fields, std::vector<FieldViolation>& violations,
                   ParsedRequest& request)
      : fields_(fields), violations_(violations), request_(request) {}

  void ReadResponseFormat() {
    const Json* format = fields_.Find("response_format");
    if (format == nullptr) return;
    if (!format->is_object()) return fields_.WrongType("response_format", "an object", *format);
    const Json type = format->value("type", Json());
    if (type == "text") return;
    if (type == "json_object") return Ask("response_format", GrammarKind::kJsonObject, "");
    if (type == "structural_tag") {
      return Ask("response_format", GrammarKind::kStructuralTag, JsonText(*format));
    }
    if (type != "json_schema") {
      return fields_.Fail("response_format.type",
                          "must be text, json_object, json_schema or structural_tag, got " +
                              JsonText(type).substr(0, 64));
    }
    const auto wrapper = format->find("json_schema");
    const Json* schema = nullptr;
    if (wrapper != format->end() && wrapper->is_object()) {
      const auto inner = wrapper->find("schema");
      if (inner != wrapper->end() && !inner->is_null()) schema = &*inner;
    } else if (const auto flat = format->find("schema"); flat != format->end()) {
      schema = &*flat;
    }
    if (schema == nullptr) {
      return fields_.Fail("response_format.json_schema.schema", "is required");
    }
    Ask("response_format", GrammarKind::kJsonSchema, ObjectOrText(*schema));
  }

  void ReadStructuredOutputs() {
    const Json* outputs = fields_.Find("structured_outputs");
    if (outputs == nullptr) return;
    if (!outputs->is_object()) {
      return fields_.WrongType("structured_outputs", "an object", *outputs);
    }
    JsonFields options(*outputs, violations_);
    if (const Json* schema = options.Find("json")) {
      Ask("structured_outputs", GrammarKind::kJsonSchema, ObjectOrText(*schema));
    }
    if (options.Bool("json_object").value_or(false)) {
      Ask("structured_outputs", GrammarKind::kJsonObject, "");
    }
    if (auto regex = options.String("regex")) {
      Ask("structured_outputs", GrammarKind::kRegex, *std::move(regex));
    }
    if (const Json* choice = options.Find("choice")) AskChoice("structured_outputs", *choice);
    if (auto grammar = options.String("grammar")) {
      Ask("structured_outputs", GrammarKind::kLark, *std::move(grammar));
    }
    if (const Json* tag = options.Find("structural_tag")) {
      Ask("structured_outputs", GrammarKind::kStructuralTag, ObjectOrText(*tag));
    }
    RefusePattern(options, "whitespace_pattern");
    if (const auto disable = options.Bool("disable_any_whitespace")) any_whitespace_ = !*disable;
    if (!request_.constraint && violations_.empty()) {
      fields_.Fail("structured_outputs",
                   "wanted one of json, regex, choice, grammar, json_object, structural_tag");
    }
  }

  void ReadGuided() {
    if (const Json* schema = fields_.Find("guided_json")) {
      Ask("guided_json", GrammarKind::kJsonSchema, ObjectOrText(*schema));
    }
    if (auto regex = fields_.String("guided_regex")) {
      Ask("guided_regex", GrammarKind::kRegex, *std::move(regex));
    }
    if (const Json* choice = fields_.Find("guided_choice")) AskChoice("guided_choice", *choice);
    if (auto grammar = fields_.String("guided_grammar")) {
      Ask("guided_grammar", GrammarKind::kLark, *std::move(grammar));
    }
    RefusePattern(fields_, "guided_whitespace_pattern");
  }

  void Finish() {
    if (request_.constraint) request_.constraint->any_whitespace = any_whitespace_;
  }

 private:
  void Ask(const char* field, GrammarKind kind, std::string text) {
    if (request_.constraint) {
      return fields_.Fail(field, request_.constraint->field == field
                                     ? std::string("asks for more than one structure")
                                     : "excludes " + request_.constraint->field);
    }
    request_.constraint = AnswerConstraint{
        {.kind = kind, .text = std::move(text), .any_whitespace = false, .tool_calls = {}},
        field,
        std::nullopt};
  }

  void AskChoice(const char* field, const Json& choice) {
    if (!choice.is_array() || choice.empty()) {
      return fields_.WrongType(field, "a list of texts", choice);
    }
    for (const Json& text : choice) {
      if (!text.is_string()) return fields_.WrongType(field, "a list of texts", text);
    }
    Ask(field, GrammarKind::kChoice, JsonText(choice));
  }

  static void RefusePattern(JsonFields& fields, const char* name) {
    if (fields.Find(name) != nullptr) {
      fields.Fail(name, "is not supported; white space is left out or free");
    }
  }

  JsonFields& fields_;
  std::vector<FieldViolation>& violations_;
  ParsedRequest& request_;
  std::optional<bool> any_whitespace_;
};

}  // namespace

void ReadConstraint(JsonFields& fields, std::vector<FieldViolation>& violations,
                    ParsedRequest& request) {
  ConstraintReader reader(fields, violations, request);
  reader.ReadResponseFormat();
  reader.ReadStructuredOutputs();
  reader.ReadGuided();
  reader.Finish();
}

}  // namespace sheaf
