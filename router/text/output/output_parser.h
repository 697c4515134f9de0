#pragma once
// OutputParser takes apart what a model generates: thoughts, content, and tool calls with their
// arguments as JSON. One state machine reads both of GLM's formats.
//
// Input      The text in order, each tag token by itself with its id (as TokenAlignedText gives
//            it). A tag counts as its token; where the tokenizer has none, as text.
// Thoughts   Reasoning format none: think tags are plain content. Else <think> begins thoughts,
//            </think> ends them (one that ends nothing is dropped), and so does <tool_call>.
// Space      White space beside a tag, and where the output begins, belongs to the format and is
//            dropped; all other is kept. With neither format nothing is dropped.
// Calls      A call begins when its name is known, whole and declared. The text of any other call
//            is content, tags included, and is counted. Tolerated: a forgotten <arg_key>,
//            </arg_key>, </arg_value>, and a forgotten </tool_call> before the next <tool_call> or
//            the model's own end. A tag within a value that does not end it is text of the value.
// Arguments  Compact JSON, typed by the declared schema (argument_value.h). Strings come out while
//            they are generated. No arguments are "{}". A key that comes twice is written twice:
//            readers of JSON take the last. A key without a value is left out.
// Splits     However the text is cut into pieces, the events are the same once neighbours of one
//            kind are joined.
// Ownership  Shares the declared tools. Threads  One at a time; one parser a choice.
// Cost       O(bytes of the output). Memory: one value that is not a string, a key, a possible
//            name, or a run of white space.

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/ids.h"
#include "router/text/output/argument_value.h"
#include "router/text/output/declared_tools.h"
#include "router/text/output/output_format.h"
#include "router/text/output/tag_scanner.h"

namespace sheaf {

struct ReasoningText {
  std::string text;
  bool operator==(const ReasoningText&) const = default;
};
struct ContentText {
  std::string text;
  bool operator==(const ContentText&) const = default;
};
struct CallBegin {
  int index = 0;  // 0, 1, ... in order
  std::string id;
  std::string name;
  bool operator==(const CallBegin&) const = default;
};
struct CallArguments {
  int index = 0;
  std::string json;  // the next piece
  bool operator==(const CallArguments&) const = default;
};
struct CallEnd {  // the call is complete
  int index = 0;
  bool operator==(const CallEnd&) const = default;
};
using OutputEvent = std::variant<ReasoningText, ContentText, CallBegin, CallArguments, CallEnd>;

struct OutputParserOptions {
  OutputFormat format = {};
  // null: calls are not read, their tags are plain text.
  std::shared_ptr<const DeclaredTools> tools = nullptr;
  OutputStart start = OutputStart::kContent;
  // The output continues a text: white space at its beginning is that text's.
  bool keep_leading_space = false;
  std::function<std::string(int index)> call_id = nullptr;  // null: ids are empty
};

enum class OutputStop { kStopToken, kStopString, kLength };

class OutputParser {
 public:
  explicit OutputParser(OutputParserOptions options);

  // `id` set: `text` is this token's whole text (empty when it is not shown). nullopt: ordinary
  // text. Events are appended, joined to the last one where that is of the same kind.
  void Push(std::optional<TokenId> id, std::string_view text, std::vector<OutputEvent>& events);
  // The output has ended. A call that is open counts as complete only when the model itself ended
  // here, between two arguments. Nothing may be pushed afterwards.
  void Finish(OutputStop how, std::vector<OutputEvent>& events);

  bool in_thoughts() const { return state_ == State::kThoughts; }
  int num_calls() const { return num_complete_; }  // complete ones
  bool call_open() const;                          // after Finish: a call was cut off
  int undeclared_calls() const { return num_undeclared_; }

 private:
  enum class State {
    kContent,
    kThoughts,
    kName,         // after <tool_call>
    kArguments,    // between arguments
    kKey,          // after <arg_key>
    kBeforeValue,  // after </arg_key>
    kValue,        // after <arg_value>
    kUndeclared,   // in a call whose text is content
  };
  using Events = std::vector<OutputEvent>;

  void OnText(std::string_view text, Events& events);
  void OnTag(OutputTag tag, Events& events);

  // Thoughts or content, by the state; without the format's white space.
  void Say(std::string_view text, Events& events);
  void Emit(std::string_view text, Events& events);
  // A tag acts here: the white space around it is dropped.
  void DropSpace();

  void OnTagInText(OutputTag tag, Events& events);
  void OnTagInName(OutputTag tag, Events& events);
  void OnTagInArguments(OutputTag tag, Events& events);
  void OnTagInValue(OutputTag tag, Events& events);
  void OnTagInUndeclared(OutputTag tag, Events& events);

  void ExpectName();
  void ExtendName(std::string_view text, Events& events);
  std::string_view NameText() const;
  void GiveUpName(Events& events);
  void BeginUndeclared(Events& events);
  // The call of `tool` begins; `key`: the beginning of its first key.
  void BeginCall(const DeclaredTool& tool, std::string_view key, Events& events);
  void BeginValue(Events& events);
  void EndCall(Events& events);

  const OutputParserOptions options_;
  const bool verbatim_;  // no format: nothing is taken apart
  TagScanner scanner_;
  State state_ = State::kContent;

  bool drop_space_;         // up to the next character that is not white space
  std::string held_space_;  // not yet known to be text

  std::string name_;           // all text since <tool_call>
  size_t name_begin_ = 0;      // its first character that is not white space
  bool name_may_end_ = false;  // a declared name is at its beginning

  const DeclaredTool* tool_ = nullptr;  // of the open call
  int num_begun_ = 0;
  int num_complete_ = 0;
  int num_undeclared_ = 0;
  bool has_arguments_ = false;
  std::string key_;
  ArgumentValue value_;
  bool in_undeclared_value_ = false;
};

}  // namespace sheaf
