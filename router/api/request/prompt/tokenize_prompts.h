#pragma once
// TokenizePrompts: from the texts, token ids or chat of a request to its prompts, each within its
// bounds (text_bounds.h), as many of their tokens as are wanted.
//
// Threads    pure. Cost: 4 MB/s, until the context is full, the client has left or the texts end.
// Errors     kInvalidArgument with the field to blame, kCancelled.

#include <string>
#include <vector>

#include "router/api/request/request_validation.h"

namespace sheaf {

// "prompt", or "prompt[2]" where there are several.
std::string PromptField(const ParsedRequest& request, size_t index);

struct TokenizedPrompts {
  std::vector<PreparedPrompt> prompts;  // cut to truncate_prompt_tokens
  int doubled_prefixes = 0;             // of them, those that began with the prefix twice
};

ApiResult<TokenizedPrompts> TokenizePrompts(const ParsedRequest& request,
                                        const ValidationContext& context);

}  // namespace sheaf
