#pragma once
// Reads what config.json and generation_config.json say about the end of a text and about sampling.
//
// Ends: the ids of both files count. config.json often has one id where generation_config.json has
// three, or the other way round, and a missing one lets turns run on.
// Sampling: `do_sample: false` is greedy: temperature 0, whatever `temperature` says beside it.
// pad_token_id and bos_token_id are of no use to a server: a strange value is a remark, no error.
//
// Threads    pure.
// Errors     kInvalidArgument: an end outside the vocabulary, a sampling value outside its range.

#include "absl/status/status.h"
#include "model/config.h"
#include "model/config_json.h"

namespace sheaf {

// config.json; config.vocab_size is set.
absl::Status ReadSpecialTokens(const JsonObject& object, ModelConfig& config);

// generation_config.json; ids are added to those that `config` has.
absl::Status ReadGenerationConfig(const JsonObject& object, ModelConfig& config);

}  // namespace sheaf
