#include "router/api/request/bad_words.h"

#include <utility>

namespace sheaf {

ApiResult<BadWords> BadWordTokens(const std::vector<std::string>& words, const TextCodec& codec) {
  BadWords sequences;
  for (const std::string& word : words) {
    const size_t begin = word.find_first_not_of(' ');
    const std::string bare = begin == std::string::npos ? word : word.substr(begin);
    std::vector<TokenId> first;
    for (const char* space : {"", " "}) {
      auto tokens = codec.Encode(space + bare, /*add_special_tokens=*/false);
      if (!tokens.ok()) {
        return InvalidFields({{"bad_words", std::string(tokens.status().message())}});
      }
      if (tokens->empty()) continue;
      // After a space the word is another sequence only where the space joins its first token.
      const bool joined = tokens->size() == first.size() && tokens->front() != first.front();
      if (*space != '\0' && !first.empty() && !joined) continue;
      if (*space == '\0') first = *tokens;
      sequences.push_back(*std::move(tokens));
    }
  }
  return sequences;
}

}  // namespace sheaf
