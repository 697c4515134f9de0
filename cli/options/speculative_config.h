#pragma once
// `--speculative-config`: vLLM's JSON object for prompt lookup, as options of the engine.
//
//   {"method": "ngram", "num_speculative_tokens": 5,
//    "prompt_lookup_max": 4, "prompt_lookup_min": 2}
//
// method                  ngram alone; may be left out
// num_speculative_tokens  1 to 16, the longest draft; required
// prompt_lookup_max/_min  1 to 32: how many newest tokens must have occurred before, min <= max;
//                         one given alone is both; default 4 and 2
//
// Errors     kInvalidArgument naming the flag, the key, wanted and got; an unknown key is one.

#include <string_view>

#include "absl/status/statusor.h"
#include "router/schedule/speculation/speculator.h"

namespace sheaf {

// Empty text: no speculation.
absl::StatusOr<SpeculationOptions> ParseSpeculativeConfig(std::string_view text);

}  // namespace sheaf
