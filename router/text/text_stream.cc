#include "router/text/text_stream.h"

#include <utility>

namespace sheaf {

TextStream::TextStream(const Tokenizer& tokenizer, TextStreamOptions options)
    : detokenizer_(tokenizer, options.skip_special_tokens),
      matcher_(options.stop ? std::move(options.stop) : std::make_shared<const StopStrings>(),
               options.include_stop_str_in_output),
      min_tokens_(options.min_tokens) {}

TextDelta TextStream::Push(TokenId id) {
  if (ended_) return {.text_end = text_end_};
  ++num_tokens_;
  const std::string piece = detokenizer_.Push(id);
  text_end_ += static_cast<int64_t>(piece.size());
  StopMatcher::Result result = matcher_.Push(piece, num_tokens_ > min_tokens_);
  ended_ = result.stop_index.has_value();
  return {std::move(result.text), result.stop_index, text_end_};
}

TextDelta TextStream::Finish() {
  if (ended_) return {.text_end = text_end_};
  ended_ = true;
  const std::string piece = detokenizer_.Finish();
  text_end_ += static_cast<int64_t>(piece.size());
  StopMatcher::Result result = matcher_.Push(piece, num_tokens_ > min_tokens_);
  if (!result.stop_index.has_value()) result.text += matcher_.Finish();
  return {std::move(result.text), result.stop_index, text_end_};
}

}  // namespace sheaf
