#pragma once
// From logits to the next token, in the order of vLLM's V1 sampler: the grammar's mask, allowed and
// banned ids (bad words, stop ids before min_tokens), logit bias, repetition penalty over prompt
// and output, frequency and presence penalties over the output, greedy if temperature < 1e-5, else
// temperature, min-p, top-k, top-p, and argmax(probability / Exp(1)).
//
// Randomness is counter-based (Philox 4x32-10): the draw for token id i at output index t is a
// function of (seed, t, i) alone, so a preempted, re-batched or replayed request draws the same
// token.
//
// Shapes     logits [vocab], changed in place. Threads: pure, one row a call.
// Errors     kInternal when no finite logit is left (NaN from the model), naming the counts;
//            kInvalidArgument when mask, allowed and banned ids leave none, naming which of them
//            were there.

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "base/ids.h"
#include "base/shared_list.h"
#include "kernels/sampling/token_counts.h"

namespace sheaf::kernels {

struct SamplingParams {
  float temperature = 1.0f;          // [0, inf); below 1e-5: greedy
  float top_p = 1.0f;                // (0, 1]
  int32_t top_k = 0;                 // 0 or -1: all
  float min_p = 0.0f;                // [0, 1]
  float repetition_penalty = 1.0f;   // (0, inf)
  float frequency_penalty = 0.0f;    // [-2, 2]
  float presence_penalty = 0.0f;     // [-2, 2]
  uint64_t seed = 0;
  std::vector<std::pair<TokenId, float>> logit_bias = {};
  SharedList<TokenId> allowed_token_ids = {};  // empty: all
};

// Whether the sampler must know which tokens there were.
inline bool HasPenalties(const SamplingParams& params) {
  return params.repetition_penalty != 1.0f || params.frequency_penalty != 0.0f ||
         params.presence_penalty != 0.0f;
}

// What the sampler must know of the sequence so far.
struct SamplingHistory {
  std::span<const TokenId> prompt = {};
  std::span<const TokenId> output = {};
  // Of these prompt and output, for penalties. Null: the sampler counts anew, O(tokens).
  const TokenCounts* counts = nullptr;
  // ids that may not be chosen now (bad words, stop ids before min_tokens)
  std::span<const TokenId> masked = {};
  // Bit i % 32 of word i / 32: id i may be chosen. Empty: all. Else ceil(vocab / 32) words.
  std::span<const uint32_t> mask = {};
};

absl::StatusOr<TokenId> SampleToken(std::span<float> logits, const SamplingParams& params,
                                    const SamplingHistory& history);

// The standard exponential variate of (seed, output_index, token), > 0. Exposed for tests.
float ExponentialVariate(uint64_t seed, uint64_t output_index, uint32_t token);

}  // namespace sheaf::kernels
