#include "cli/chat/answer_printer.h"

#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <vector>

namespace sheaf {
namespace {

constexpr AnswerStyle kTerminal = {.thoughts = true, .terminal = true};
constexpr AnswerStyle kPipe = {.thoughts = false, .terminal = false};
constexpr AnswerStyle kPipeWithThoughts = {.thoughts = true, .terminal = false};

v1::TokenDelta TextDelta(const std::string& text) {
  v1::TokenDelta delta;
  delta.set_text(text);
  return delta;
}

v1::TokenDelta ReasoningDelta(const std::string& text) {
  v1::TokenDelta delta;
  delta.set_reasoning(text);
  return delta;
}

v1::TokenDelta CallDelta(uint32_t index, const std::string& name, const std::string& arguments,
                         bool complete) {
  v1::TokenDelta delta;
  v1::ToolCallDelta* const piece = delta.add_tool_calls();
  piece->set_index(index);
  if (!name.empty()) piece->set_name(name);
  piece->set_arguments_json(arguments);
  piece->set_complete(complete);
  return delta;
}

std::string Printed(AnswerStyle style, const std::vector<v1::TokenDelta>& deltas) {
  std::ostringstream out;
  AnswerPrinter printer(out, style);
  for (const v1::TokenDelta& delta : deltas) printer.Print(delta);
  printer.Finish();
  return out.str();
}

TEST(AnswerPrinter, DimsThoughtsOnATerminal) {
  EXPECT_EQ(Printed(kTerminal, {ReasoningDelta("so"), ReasoningDelta(" be it"), TextDelta("Yes")}),
            "\x1b[2mso be it\x1b[0m\nYes\n");
}

TEST(AnswerPrinter, ADimmedAnswerThatEndsInItsThoughtsLeavesTheTerminalPlain) {
  EXPECT_EQ(Printed(kTerminal, {ReasoningDelta("so")}), "\x1b[2mso\x1b[0m\n");
}

TEST(AnswerPrinter, APipeHasTheAnswerAlone) {
  const std::vector<v1::TokenDelta> deltas = {ReasoningDelta("so"), TextDelta("Yes"),
                                              TextDelta(".")};
  EXPECT_EQ(Printed(kPipe, deltas), "Yes.\n");
  EXPECT_EQ(Printed(kPipeWithThoughts, deltas), "so\nYes.\n");
  EXPECT_EQ(Printed(kPipe, {}), "\n");
}

TEST(AnswerPrinter, CallsAreLinesOfTheirOwn) {
  EXPECT_EQ(Printed(kPipe, {TextDelta("I look."), CallDelta(0, "f", "{\"a\"", false),
                            CallDelta(0, "", ":1}", true), CallDelta(1, "g", "{}", true)}),
            "I look.\nf({\"a\":1})\ng({})\n");
}

TEST(AnswerPrinter, ACallThatWasCutOffIsNotClosed) {
  EXPECT_EQ(Printed(kPipe, {CallDelta(0, "f", "{\"a\"", false)}), "f({\"a\"\n");
}

TEST(AnswerPrinter, NeverLetsTextDriveTheTerminal) {
  const std::string text = "a\x1b[31m\tb\n\x7f\xc2\x9bz\xc3\xa9";
  EXPECT_EQ(Printed(kTerminal, {TextDelta(text)}), "a^[[31m\tb\n^?z\xc3\xa9\n");
  EXPECT_EQ(Printed(kPipe, {TextDelta(text)}), text + "\n") << "a pipe gets the bytes";
}

}  // namespace
}  // namespace sheaf
