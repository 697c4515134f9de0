#include "cli/chat/chat_line.h"

#include "router/text/output/json_text.h"

namespace sheaf {

ChatLine ParseChatLine(std::string_view text) {
  const std::string_view stripped = StripSpace(text);
  if (stripped.empty()) return {};
  if (!stripped.starts_with('/')) return {ChatLine::Kind::kSay, std::string(text)};
  if (stripped.starts_with("//")) return {ChatLine::Kind::kSay, std::string(stripped.substr(1))};
  const size_t space = stripped.find_first_of(" \t\n");
  const std::string_view name = stripped.substr(0, space);
  const std::string_view rest =
      space == std::string_view::npos ? "" : StripSpace(stripped.substr(space));
  if (name == "/system") return {ChatLine::Kind::kSystem, std::string(rest)};
  if (rest.empty()) {
    if (name == "/reset") return {ChatLine::Kind::kReset, ""};
    if (name == "/quit") return {ChatLine::Kind::kQuit, ""};
    if (name == "/help") return {ChatLine::Kind::kHelp, ""};
  }
  return {ChatLine::Kind::kUnknown, std::string(stripped)};
}

std::optional<std::string_view> ContinuedLine(std::string_view line) {
  if (!line.ends_with('\\')) return std::nullopt;
  return line.substr(0, line.size() - 1);
}

}  // namespace sheaf
