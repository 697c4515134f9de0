#pragma once
// ChatOutput: one choice of a chat, from the engine's tokens to typed events: thoughts, content and
// calls. What every face that speaks of chats builds its answers from.
//
// Threads  one at a time: the face that takes the call's events. Cost: O(bytes of the output).

#include <cstdint>
#include <optional>
#include <vector>

#include "router/api/request/answer_plan.h"
#include "router/api/request/prompt/text_codec.h"
#include "router/schedule/generation.h"
#include "router/text/guide/thought_tracker.h"
#include "router/text/output/output_parser.h"
#include "router/text/output/token_aligned_text.h"

namespace sheaf {

class ChatOutput {
 public:
  // `call_id_seed` makes the ids of calls: unlike for each choice.
  ChatOutput(const ChatOutputPlan& plan, const TextCodec& codec, bool skip_special_tokens,
             uint64_t call_id_seed);

  // Appends the events that the token, or the end, completes.
  void Push(const TokenEvent& token, std::vector<OutputEvent>& events);
  void Finish(const GenerationEnd& end, std::vector<OutputEvent>& events);

  int complete_calls() const { return parser_.num_calls(); }
  int undeclared_calls() const { return parser_.undeclared_calls(); }
  // Tokens of thoughts so far; after Finish what the engine counted. Where the tokenizer has no tag
  // tokens, the tokens that came while the text was in thoughts.
  int32_t reasoning_tokens() const;

 private:
  void CountThought(bool was_in_thoughts, bool was_said);
  void PushPieces(const std::vector<TextPiece>& pieces, std::vector<OutputEvent>& events);

  OutputParser parser_;
  TokenAlignedText aligned_;
  const bool has_tag_tokens_;
  ThoughtTracker thoughts_;
  // By the text: a token counts once text of it, or of a later one, is a thought. What may be the
  // end of thoughts is said of no thought.
  int32_t tokens_in_thoughts_ = 0;
  int32_t tokens_unsaid_ = 0;
  std::optional<int32_t> counted_;
};

}  // namespace sheaf
