#include "router/text/incremental_detokenizer.h"

namespace sheaf {

IncrementalDetokenizer::IncrementalDetokenizer(const Tokenizer& tokenizer, bool skip_special_tokens)
    : tokenizer_(tokenizer), skip_special_tokens_(skip_special_tokens) {}

std::string IncrementalDetokenizer::Push(TokenId id) {
  std::string text;
  if (skip_special_tokens_ && tokenizer_.IsSpecial(id)) return text;
  utf8_.Push(tokenizer_.TokenBytes(id), text);
  return text;
}

std::string IncrementalDetokenizer::Finish() {
  std::string text;
  utf8_.Finish(text);
  return text;
}

}  // namespace sheaf
