#pragma once
// GrpcAnswer: from the events of one generation to sheaf.v1 response messages. Of a chat it tells
// thoughts, text and calls apart.
//
// Threads: one at a time. Cost: O(bytes of the output).

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "router/api/generation/chat_output.h"
#include "router/api/generation/generation_call.h"
#include "router/api/grpc/grpc_delta_writer.h"
#include "router/api/request/parsed_request.h"
#include "router/api/request/prompt/text_codec.h"
#include "router/api/request/request_validation.h"
#include "sheaf/v1/inference.pb.h"

namespace sheaf {

v1::GenerateResponse PromptMessage(const PreparedRequest& prepared, uint64_t seed,
                                   const std::string& model, bool with_token_ids);

class GrpcAnswer {
 public:
  // `codec` outlives it.
  GrpcAnswer(const ParsedRequest& request, const PreparedRequest& prepared, const TextCodec& codec);

  // Tokens that came together share deltas, the end is a message of its own. Appends to `messages`.
  void Append(const std::vector<ChoiceEvent>& events, std::vector<v1::GenerateResponse>& messages);

  // So far: calls that came as text, because no such tool was declared.
  int undeclared_calls() const { return chat_ ? chat_->undeclared_calls() : 0; }

 private:
  void AppendToken(const TokenEvent& token, DeltaWriter& writer);
  void AppendEnd(const GenerationEnd& end, DeltaWriter& writer,
                 std::vector<v1::GenerateResponse>& messages);
  // Drops thoughts that are not wanted.
  void Filter(std::vector<OutputEvent>& events) const;

  const TextCodec& codec_;
  const bool with_reasoning_;
  std::optional<ChatOutput> chat_;  // for chats
};

}  // namespace sheaf
