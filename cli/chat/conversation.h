#pragma once
// Conversation: what was said so far between a user and the model, and the chat input of the next
// turn.
//
// A turn is added when its answer is there, so one that failed leaves nothing behind. Thoughts of
// earlier answers are kept: the server's chat template decides which of them the model sees again.
// Threads: one at a time. Cost: Next copies the whole conversation.

#include <string>
#include <string_view>
#include <vector>

#include "sheaf/v1/inference.pb.h"

namespace sheaf {

class Conversation {
 public:
  // Stands before everything that was or will be said; empty: no system message.
  void SetSystem(std::string_view text) { system_ = text; }
  // Forgets every turn; the system message stays.
  void Reset() { said_.clear(); }

  // The conversation so far and this question.
  v1::ChatInput Next(std::string_view question) const;
  void AddTurn(std::string_view question, v1::ChatMessage answer);

 private:
  std::string system_;
  std::vector<v1::ChatMessage> said_;  // user and assistant in turn
};

}  // namespace sheaf
