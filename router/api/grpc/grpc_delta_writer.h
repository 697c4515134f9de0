#pragma once
// DeltaWriter puts what one choice generates into TokenDelta messages: as few as possible, each
// with text of one kind, none much larger than kMaxDeltaBytes. A larger one comes only where a
// single token's log-probabilities are larger; it has nothing else.
//
// Order      Tokens and log-probabilities stay in order, and a token goes with the first text that
//            it gave.
// Ownership  codec and messages outlive it. Threads  One at a time. Cost  O(bytes).

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "router/api/generation/generation_call.h"
#include "router/api/request/prompt/text_codec.h"
#include "sheaf/v1/inference.pb.h"

namespace sheaf {

class DeltaWriter {
 public:
  // Clients accept messages of 4 MiB unless told otherwise, some only of 1 MiB.
  static constexpr size_t kMaxDeltaBytes = 512u << 10;

  enum class Kind { kNone, kText, kReasoning, kToolCalls };

  // Appends to `messages`.
  DeltaWriter(const TextCodec& codec, std::vector<v1::GenerateResponse>& messages)
      : codec_(codec), messages_(messages) {}

  void AddPromptLogprobs(const PromptLogprobs& logprobs);
  // The text of `event` is not written. `kind`: that of the first text which the token gave.
  void AddToken(const TokenEvent& event, Kind kind);
  void AddText(std::string_view text);
  void AddReasoning(std::string_view text);
  void BeginCall(int index, const std::string& id, const std::string& name);
  void AddCallArguments(int index, std::string_view json);
  void EndCall(int index);

 private:
  // The delta that may hold `bytes` more of this kind: the last one or a new one.
  v1::TokenDelta& DeltaFor(Kind kind, size_t bytes);
  // The piece of call `index` that is still open for more.
  v1::ToolCallDelta& CallPiece(int index, size_t bytes);

  const TextCodec& codec_;
  std::vector<v1::GenerateResponse>& messages_;
  // Of the last message, where that is a delta that may grow.
  bool open_ = false;
  Kind kind_ = Kind::kNone;  // of its text so far
  size_t bytes_ = 0;         // about what it takes
};

}  // namespace sheaf
