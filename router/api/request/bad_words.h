#pragma once
// Texts that may not be generated, as the token sequences that spell them.
//
// As vLLM does it: a word is forbidden at the beginning of a text and after a space, each in the
// tokenizer's usual spelling; a model that spells it in other tokens is not stopped.
//
// Threads: pure. Errors: kInvalidArgument: not UTF-8.

#include <string>
#include <vector>

#include "router/api/request/api_error.h"
#include "router/api/request/prompt/text_codec.h"

namespace sheaf {

using BadWords = std::vector<std::vector<TokenId>>;

ApiResult<BadWords> BadWordTokens(const std::vector<std::string>& words, const TextCodec& codec);

}  // namespace sheaf
