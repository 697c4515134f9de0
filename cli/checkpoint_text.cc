#include "cli/checkpoint_text.h"

#include <utility>

#include "base/status.h"

namespace sheaf {

absl::StatusOr<std::unique_ptr<CheckpointText>> CheckpointText::Load(
    const std::string& checkpoint_dir) {
  std::unique_ptr<CheckpointText> text(new CheckpointText);
  SHEAF_ASSIGN_OR_RETURN(text->tokenizer_, Tokenizer::Load(checkpoint_dir));
  auto chat_template = ChatTemplate::Load(checkpoint_dir);
  if (chat_template.ok()) {
    text->chat_template_ = *std::move(chat_template);
  } else if (!absl::IsNotFound(chat_template.status())) {
    return std::move(chat_template).status();
  }
  return text;
}

absl::StatusOr<std::string> CheckpointText::RenderChat(const ChatInput& chat) const {
  if (chat_template_ == nullptr) {
    return absl::InvalidArgumentError("this checkpoint has no chat template: use completions");
  }
  return chat_template_->Render({.messages_json = chat.messages_json,
                                 .arguments_json = chat.template_arguments_json,
                                 .add_generation_prompt = chat.add_generation_prompt.value_or(true)});
}

}  // namespace sheaf
