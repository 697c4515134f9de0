#pragma once
// TokenAlignedText on a real tokenizer, as the server makes it.

#include "router/text/output/token_aligned_text.h"
#include "router/text/tokenizer.h"

namespace sheaf::testing {

inline TokenAlignedText AlignedText(const Tokenizer& tokenizer, const OutputTags& tags,
                                    bool skip_special_tokens) {
  return TokenAlignedText(tags, [&](TokenId id) {
    if (skip_special_tokens && tokenizer.IsSpecial(id)) return size_t{0};
    return tokenizer.TokenBytes(id).size();
  });
}

}  // namespace sheaf::testing
