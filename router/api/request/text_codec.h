#pragma once
// TextCodec: what the API needs of tokenizer and chat template, so that its tests need neither.
//
// Threads    const methods from any number of threads.
// Errors     Encode, RenderChat: kInvalidArgument when the client's text or messages are wrong.

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/ids.h"
#include "router/api/request/parsed_request.h"

namespace sheaf {

class TextCodec {
 public:
  virtual ~TextCodec() = default;

  virtual absl::StatusOr<std::vector<TokenId>> Encode(std::string_view text,
                                                      bool add_special_tokens) const = 0;
  virtual absl::StatusOr<std::string> Decode(std::span<const TokenId> ids,
                                             bool skip_special_tokens) const = 0;
  // The text of a chat; encode it without special tokens, it has them.
  virtual bool has_chat_template() const = 0;
  virtual absl::StatusOr<std::string> RenderChat(const ChatInput& chat) const = 0;
  // What a token adds to the text (often not UTF-8 by itself), and how the vocabulary writes it.
  virtual std::string TokenBytes(TokenId id) const = 0;
  virtual std::string TokenText(TokenId id) const = 0;
};

}  // namespace sheaf
