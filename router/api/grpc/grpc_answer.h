#pragma once
// GrpcAnswer: from the events of one generation to sheaf.v1 response messages.
//
// Threads: one at a time.

#include <cstdint>
#include <string>
#include <vector>

#include "router/api/generation/generation_call.h"
#include "router/api/request/request_validation.h"
#include "router/api/request/text_codec.h"
#include "sheaf/v1/inference.pb.h"

namespace sheaf {

v1::GenerateResponse PromptMessage(const PreparedRequest& prepared, uint64_t seed,
                                   const std::string& model, bool with_token_ids);

class GrpcAnswer {
 public:
  // `codec` outlives it.
  explicit GrpcAnswer(const TextCodec& codec) : codec_(codec) {}

  // Tokens that came together share deltas, the end is a message of its own. Appends to `messages`.
  void Append(std::vector<ChoiceEvent> events, std::vector<v1::GenerateResponse>& messages);

 private:
  const TextCodec& codec_;
};

}  // namespace sheaf
