#pragma once
// TextStream is the text side of one running sequence: tokens in, text to show out, stop strings
// watched.
//
// The caller decides on stop *tokens* (EOS list, stop_token_ids): it does not push a token that
// ends the sequence but calls Finish, so that token never shows in the text.
// Ownership  The tokenizer outlives it. Threads  One at a time. Cost  O(bytes of the text).

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/ids.h"
#include "router/text/incremental_detokenizer.h"
#include "router/text/stop_matcher.h"
#include "router/text/tokenizer.h"

namespace sheaf {

struct TextStreamOptions {
  std::shared_ptr<const StopStrings> stop;  // null: none
  bool include_stop_str_in_output = false;
  bool skip_special_tokens = true;
  int min_tokens = 0;  // a stop string counts only when it ends after the text of that many tokens
};

struct TextDelta {
  std::string text = {};  // whole characters; may be empty
  // Set: this stop string was found, the sequence ends here.
  std::optional<int> stop_index = std::nullopt;
  // Bytes of text of all tokens up to here, as if none were held back: before stop strings are
  // looked for. So it tells where in the text a token ends though the text comes later.
  int64_t text_end = 0;
};

class TextStream {
 public:
  TextStream(const Tokenizer& tokenizer, TextStreamOptions options);

  TextDelta Push(TokenId id);
  // The end without a stop string (EOS, length, cancelled): the text that was still held back. A
  // stop string may be found in it too. Nothing may be pushed afterwards.
  TextDelta Finish();

  // The last delta's.
  int64_t text_end() const { return text_end_; }

 private:
  IncrementalDetokenizer detokenizer_;
  StopMatcher matcher_;
  const int min_tokens_;
  int num_tokens_ = 0;
  int64_t text_end_ = 0;
  bool ended_ = false;
};

}  // namespace sheaf
