#pragma once
// What a line means that a user of `sheaf chat` writes: a text to say or a command.
//
// Pure functions.

#include <optional>
#include <string>
#include <string_view>

namespace sheaf {

struct ChatLine {
  enum class Kind { kNothing, kSay, kReset, kQuit, kHelp, kSystem, kUnknown };

  Kind kind = Kind::kNothing;
  std::string text;  // what to say, the system message, or what is no command
};

// A text that begins with '/' is a command; "//x" says "/x". White space alone is nothing.
ChatLine ParseChatLine(std::string_view text);

// A line that ends with a backslash goes on in the next one: the line without it, else nullopt.
std::optional<std::string_view> ContinuedLine(std::string_view line);

}  // namespace sheaf
