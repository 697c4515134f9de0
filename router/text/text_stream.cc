#include "router/text/text_stream.h"

#include <utility>

namespace sheaf {

TextStream::TextStream(const Tokenizer& tokenizer, TextStreamOptions options)
    : detokenizer_(tokenizer, options.skip_special_tokens),
      matcher_(options.stop ? std::move(options.stop) : std::make_shared<const StopStrings>(),
               options.include_stop_str_in_output),
      min_tokens_(options.min_tokens) {}

TextDelta TextStream::Push(TokenId id) {
  if (ended_) return {};
  ++num_tokens_;
  StopMatcher::Result result = matcher_.Push(detokenizer_.Push(id), num_tokens_ > min_tokens_);
  ended_ = result.stop_index.has_value();
  return {std::move(result.text), result.stop_index};
}

TextDelta TextStream::Finish() {
  if (ended_) return {};
  ended_ = true;
  StopMatcher::Result result = matcher_.Push(detokenizer_.Finish(), num_tokens_ > min_tokens_);
  if (!result.stop_index.has_value()) result.text += matcher_.Finish();
  return {std::move(result.text), result.stop_index};
}

}  // namespace sheaf
