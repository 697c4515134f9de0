#pragma once
// IncrementalDetokenizer turns one sequence's tokens into text as they come.
//
// All texts it returns, put together, are Tokenizer::Decode of all ids. None holds part of a
// character: a character whose bytes come in several tokens is returned with the last of them.
// Ownership  The tokenizer outlives it. Threads  One at a time. Cost  O(bytes of the token).

#include <string>

#include "base/ids.h"
#include "router/text/tokenizer.h"
#include "router/text/utf8_stream.h"

namespace sheaf {

class IncrementalDetokenizer {
 public:
  IncrementalDetokenizer(const Tokenizer& tokenizer, bool skip_special_tokens);

  // The text that `id` completes, often empty.
  std::string Push(TokenId id);
  // The end of the sequence: an unfinished character becomes U+FFFD.
  std::string Finish();

 private:
  const Tokenizer& tokenizer_;
  const bool skip_special_tokens_;
  Utf8Stream utf8_;
};

}  // namespace sheaf
