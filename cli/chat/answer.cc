#include "cli/chat/answer.h"

#include <algorithm>

namespace sheaf {

void Answer::Add(const v1::TokenDelta& delta) {
  content_ += delta.text();
  reasoning_ += delta.reasoning();
  for (const v1::ToolCallDelta& piece : delta.tool_calls()) {
    Call& call = calls_[piece.index()];
    if (piece.has_id()) call.call.set_id(piece.id());
    if (piece.has_name()) call.call.set_name(piece.name());
    call.call.mutable_arguments_json()->append(piece.arguments_json());
    call.complete = call.complete || piece.complete();
  }
}

bool Answer::has_content() const {
  return !content_.empty() || std::any_of(calls_.begin(), calls_.end(),
                                          [](const auto& entry) { return entry.second.complete; });
}

v1::ChatMessage Answer::Message() const {
  v1::ChatMessage message;
  message.set_role("assistant");
  message.set_content(content_);
  if (!reasoning_.empty()) message.set_reasoning_content(reasoning_);
  for (const auto& [index, call] : calls_) {
    if (call.complete) *message.add_tool_calls() = call.call;
  }
  return message;
}

}  // namespace sheaf
