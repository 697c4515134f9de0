#include "router/api/generation/chat_output.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_format.h"

namespace sheaf {
namespace {

// SplitMix64: unlike outputs for unlike inputs.
uint64_t Mixed(uint64_t x) {
  x += 0x9E3779B97F4A7C15;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

OutputParserOptions ParserOptions(const ChatOutputPlan& plan, uint64_t call_id_seed) {
  OutputParserOptions options;
  options.format = plan.format;
  options.tools = plan.tools;
  options.start = plan.start;
  options.keep_leading_space = plan.keep_leading_space;
  options.call_id = [call_id_seed](int index) {
    const uint64_t id = Mixed(call_id_seed + static_cast<uint64_t>(index));
    return absl::StrFormat("call_%016x%08x", id, Mixed(id) >> 32);
  };
  return options;
}

OutputStop StopOf(const GenerationEnd& end) {
  if (end.reason == FinishReason::kLength) return OutputStop::kLength;
  return end.stop_string ? OutputStop::kStopString : OutputStop::kStopToken;
}

}  // namespace

ChatOutput::ChatOutput(const ChatOutputPlan& plan, const TextCodec& codec, bool skip_special_tokens,
                       uint64_t call_id_seed)
    : parser_(ParserOptions(plan, call_id_seed)),
      aligned_(plan.format.tags,
               [&codec, skip_special_tokens](TokenId id) {
                 if (skip_special_tokens && codec.IsSpecial(id)) return size_t{0};
                 return codec.TokenBytes(id).size();
               }),
      has_tag_tokens_(plan.format.tags.think_end.has_value()),
      thoughts_(
          {plan.format.tags.think_begin, plan.format.tags.think_end, plan.format.tags.call_begin},
          plan.start == OutputStart::kThoughts) {}

void ChatOutput::Push(const TokenEvent& token, std::vector<OutputEvent>& events) {
  thoughts_.Accept(token.token);
  std::vector<TextPiece> pieces;
  aligned_.Push(token.token, token.text, token.text_end, pieces);
  const bool was_in_thoughts = parser_.in_thoughts();
  std::vector<OutputEvent> own;
  PushPieces(pieces, own);
  const bool was_said = std::any_of(own.begin(), own.end(), [](const OutputEvent& event) {
    return std::holds_alternative<ReasoningText>(event);
  });
  CountThought(was_in_thoughts, was_said);
  std::move(own.begin(), own.end(), std::back_inserter(events));
}

void ChatOutput::CountThought(bool was_in_thoughts, bool was_said) {
  if (was_in_thoughts) ++tokens_unsaid_;
  if (was_said) tokens_in_thoughts_ += std::exchange(tokens_unsaid_, 0);
  if (!parser_.in_thoughts()) tokens_unsaid_ = 0;
}

int32_t ChatOutput::reasoning_tokens() const {
  if (!has_tag_tokens_) return tokens_in_thoughts_;
  return counted_.value_or(thoughts_.num_tokens());
}

void ChatOutput::Finish(const GenerationEnd& end, std::vector<OutputEvent>& events) {
  std::vector<TextPiece> pieces;
  aligned_.Finish(end.text, pieces);
  PushPieces(pieces, events);
  parser_.Finish(StopOf(end), events);
  counted_ = end.reasoning_tokens;
}

void ChatOutput::PushPieces(const std::vector<TextPiece>& pieces,
                            std::vector<OutputEvent>& events) {
  for (const TextPiece& piece : pieces) parser_.Push(piece.tag, piece.text, events);
}

}  // namespace sheaf
