#pragma once
// CheckpointText: the API's TextCodec on a checkpoint's own tokenizer and chat template.
//
// A checkpoint without a chat template serves completions only. Threads: constant after Load.
// Errors: those of Tokenizer::Load and ChatTemplate::Load.

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "router/api/request/text_codec.h"
#include "router/text/chat_template.h"
#include "router/text/tokenizer.h"

namespace sheaf {

class CheckpointText final : public TextCodec {
 public:
  static absl::StatusOr<std::unique_ptr<CheckpointText>> Load(const std::string& checkpoint_dir);

  const Tokenizer& tokenizer() const { return *tokenizer_; }

  absl::StatusOr<std::vector<TokenId>> Encode(std::string_view text,
                                              bool add_special_tokens) const override {
    return tokenizer_->Encode(text, add_special_tokens);
  }
  absl::StatusOr<std::string> Decode(std::span<const TokenId> ids,
                                     bool skip_special_tokens) const override {
    return tokenizer_->Decode(ids, skip_special_tokens);
  }
  bool has_chat_template() const override { return chat_template_ != nullptr; }
  absl::StatusOr<std::string> RenderChat(const ChatInput& chat) const override;
  std::string TokenBytes(TokenId id) const override {
    return std::string(tokenizer_->TokenBytes(id));
  }
  std::string TokenText(TokenId id) const override {
    return std::string(tokenizer_->TokenText(id));
  }

 private:
  CheckpointText() = default;

  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<ChatTemplate> chat_template_;  // null: none in the checkpoint
};

}  // namespace sheaf
