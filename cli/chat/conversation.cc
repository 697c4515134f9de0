#include "cli/chat/conversation.h"

#include <utility>

namespace sheaf {
namespace {

v1::ChatMessage MessageOf(std::string_view role, std::string_view content) {
  v1::ChatMessage message;
  message.set_role(std::string(role));
  message.set_content(std::string(content));
  return message;
}

}  // namespace

v1::ChatInput Conversation::Next(std::string_view question) const {
  v1::ChatInput chat;
  if (!system_.empty()) *chat.add_messages() = MessageOf("system", system_);
  for (const v1::ChatMessage& message : said_) *chat.add_messages() = message;
  *chat.add_messages() = MessageOf("user", question);
  return chat;
}

void Conversation::AddTurn(std::string_view question, v1::ChatMessage answer) {
  said_.push_back(MessageOf("user", question));
  said_.push_back(std::move(answer));
}

}  // namespace sheaf
