#pragma once
// AnswerPrinter writes an answer's deltas for a reader: thoughts, text, and calls as
// name(arguments), each beginning on a line of its own.
//
// On a terminal thoughts are dimmed, and control characters of the model's text are shown as ^X:
// what a model writes must not drive the terminal.
// Threads: one at a time. Errors: those of the stream, which is flushed after every delta.

#include <optional>
#include <ostream>
#include <string>
#include <string_view>

#include "sheaf/v1/inference.pb.h"

namespace sheaf {

struct AnswerStyle {
  bool thoughts = false;  // print them
  bool terminal = false;
};

// For stdout: thoughts on a terminal always, else where they are wanted.
AnswerStyle StdoutStyle(bool show_thoughts);

class AnswerPrinter {
 public:
  AnswerPrinter(std::ostream& out, AnswerStyle style) : out_(out), style_(style) {}

  void Print(const v1::TokenDelta& delta);
  void PrintText(std::string_view text);
  // Ends the answer, whole or not: with a newline, and nothing dimmed.
  void Finish();

 private:
  enum class Kind { kNone, kThoughts, kText, kCall };

  void Begin(Kind kind);
  void PrintCall(const v1::ToolCallDelta& piece);
  void Write(std::string_view text);

  std::ostream& out_;
  const AnswerStyle style_;
  Kind kind_ = Kind::kNone;
  bool line_is_empty_ = true;
};

}  // namespace sheaf
