#pragma once
// ProbeTemplate tries a chat template with made-up conversations before anybody chats: what fails,
// which tokens it writes that the tokenizer does not have, and which tokens end the assistant's
// turn.
//
// Threads: pure. Cost: about ten renders of a short chat.

#include <string>
#include <vector>

#include "router/text/chat_template.h"
#include "router/text/stop_ids.h"
#include "router/text/tokenizer.h"

namespace sheaf {

// A token's text that the template writes and the tokenizer cuts into pieces.
struct TornToken {
  std::string text;
  size_t num_pieces = 0;
};

struct TemplateProbe {
  // One sentence a kind of conversation that the template cannot render, with file and line.
  std::vector<std::string> failures;
  bool chats_at_all = false;  // it renders a question
  // Of those that open a turn or the prompt (<|user|>, [gMASK], <sop>): no chat works without them.
  std::vector<TornToken> torn_role_tokens;
  // Of the tags for thoughts and calls.
  std::vector<TornToken> torn_tags;
  std::vector<TurnEnd> turn_ends;
  // The added tokens that a chat begins with ([gMASK]<sop>).
  std::vector<TokenId> prefix;
};

TemplateProbe ProbeTemplate(const ChatTemplate& chat_template, const Tokenizer& tokenizer);

}  // namespace sheaf
