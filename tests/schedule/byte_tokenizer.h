#pragma once
// The small tokenizer of tests/text, loaded: ids 0 to 255 are bytes.

#include <memory>

#include "router/text/tokenizer.h"
#include "tests/text/byte_level_tokenizer.h"

namespace sheaf::testing {

inline const Tokenizer& ByteTokenizer() {
  static const std::unique_ptr<Tokenizer> tokenizer =
      std::move(Tokenizer::FromJson(TokenizerJson().dump(), "test tokenizer").value());
  return *tokenizer;
}

}  // namespace sheaf::testing
