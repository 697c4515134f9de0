#include "cli/chat/answer_printer.h"

#include <unistd.h>

namespace sheaf {
namespace {

constexpr std::string_view kDim = "\x1b[2m";
constexpr std::string_view kPlain = "\x1b[0m";

// Control characters but newline and tab as ^X; those above ASCII (U+0080 to U+009F) are left out.
std::string WithoutControls(std::string_view text) {
  std::string shown;
  for (size_t i = 0; i < text.size(); ++i) {
    const unsigned char c = static_cast<unsigned char>(text[i]);
    const unsigned char next = i + 1 < text.size() ? static_cast<unsigned char>(text[i + 1]) : 0;
    if (c == 0xc2 && next >= 0x80 && next < 0xa0) {
      ++i;
    } else if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f) {
      shown += '^';
      shown += static_cast<char>(c ^ 0x40);
    } else {
      shown += text[i];
    }
  }
  return shown;
}

}  // namespace

AnswerStyle StdoutStyle(bool show_thoughts) {
  const bool terminal = isatty(STDOUT_FILENO) == 1;
  return {.thoughts = terminal || show_thoughts, .terminal = terminal};
}

void AnswerPrinter::Print(const v1::TokenDelta& delta) {
  if (style_.thoughts && !delta.reasoning().empty()) {
    Begin(Kind::kThoughts);
    Write(delta.reasoning());
  }
  for (const v1::ToolCallDelta& piece : delta.tool_calls()) PrintCall(piece);
  PrintText(delta.text());
  out_.flush();
}

void AnswerPrinter::PrintText(std::string_view text) {
  if (text.empty()) return;
  Begin(Kind::kText);
  Write(text);
}

void AnswerPrinter::PrintCall(const v1::ToolCallDelta& piece) {
  if (piece.has_name()) {
    Begin(Kind::kNone);  // two calls in a row are two lines
    Begin(Kind::kCall);
    Write(piece.name());
    Write("(");
  }
  Write(piece.arguments_json());
  if (piece.complete()) Write(")");
}

void AnswerPrinter::Finish() {
  // An answer of nothing is an empty line: where lines are answers, none may be missing.
  const bool nothing = kind_ == Kind::kNone;
  Begin(Kind::kNone);
  if (nothing) out_ << '\n';
  out_.flush();
}

void AnswerPrinter::Begin(Kind kind) {
  if (kind == kind_) return;
  if (kind_ == Kind::kThoughts && style_.terminal) out_ << kPlain;
  if (!line_is_empty_) Write("\n");
  kind_ = kind;
  if (kind_ == Kind::kThoughts && style_.terminal) out_ << kDim;
}

void AnswerPrinter::Write(std::string_view text) {
  if (text.empty()) return;
  if (style_.terminal) {
    out_ << WithoutControls(text);
  } else {
    out_ << text;
  }
  line_is_empty_ = text.back() == '\n';
}

}  // namespace sheaf
