#pragma once
// GrammarSpec says what a generation may be: the request's own words, not yet compiled.
//
// Text       Everything is UTF-8. `text` is kept as the client wrote it: errors name places in it.
// Ownership  Plain values.

#include <memory>
#include <string>
#include <vector>

namespace sheaf {

enum class GrammarKind {
  kJsonSchema,     // text: a JSON Schema
  kJsonObject,     // any JSON object; text is not used
  kRegex,          // text: a regular expression that the whole output matches (Rust's syntax)
  kChoice,         // text: a JSON array of strings; the output is one of them
  kLark,           // text: a grammar in llguidance's dialect of Lark
  kStructuralTag,  // text: a structural tag, {"type": "structural_tag", ...}
  kToolCalls,      // tool_calls
};

// How the model writes a tool call.
enum class ToolCallFormat {
  kGlm45,  // with newlines: <tool_call>name\n<arg_key>k</arg_key>\n<arg_value>v</arg_value>\n...
  kGlm47,  // without
};

struct GrammarSpec;

// The tools that may be called, and how often.
struct ToolCallGrammar {
  struct Tool {
    std::string name;
    std::string parameters_schema_json;  // empty: no parameters
    // The arguments follow the schema. Otherwise they are free: any keys and any text as values.
    bool strict = false;
  };
  ToolCallFormat format = ToolCallFormat::kGlm45;
  std::vector<Tool> tools;
  int min_calls = 1;
  int max_calls = -1;  // -1: any number
  // Free text may stand before, between and after the calls.
  bool text_around = false;
  // Instead of calls the answer may be text of this grammar, which is no kToolCalls itself; then no
  // text stands around calls. Where the model's tags are text and no tokens, an answer that may
  // begin with a tag's text hides the calls.
  std::shared_ptr<const GrammarSpec> or_answer;
};

struct GrammarSpec {
  GrammarKind kind = GrammarKind::kJsonObject;
  std::string text;
  // JSON with white space wherever JSON allows it. Without, it is compact: a small model that may
  // write white space tends to fill its answer with it up to the token limit.
  bool any_whitespace = false;
  ToolCallGrammar tool_calls;  // for kToolCalls alone
};

}  // namespace sheaf
