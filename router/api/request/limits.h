#pragma once
// What one request may ask for at most. Lengths in tokens come from the engine and the model
// instead.

#include <cstddef>
#include <cstdint>

namespace sheaf {

struct RequestLimits {
  int64_t max_logprobs = 20;  // -1: the whole vocabulary
  int64_t max_n = 128;
  int64_t max_choices = 1024;  // prompts x n
  size_t max_stop_strings = 16;
  size_t max_stop_string_bytes = 1024;
  size_t max_stop_token_ids = 128;
  size_t max_logit_biases = 1024;
  size_t max_bad_words = 128;
  size_t max_bad_word_bytes = 1024;
  size_t max_tools = 512;
  size_t max_request_id_bytes = 256;
  size_t max_fairness_key_bytes = 256;
  size_t max_cache_salt_bytes = 256;
  // Of a text that is tokenized, where the vocabulary itself does not say (text_bounds.h).
  size_t max_bytes_per_token = 256;
  // Of all choices of a request together (prompts x n): they wait with a copy of their prompt each.
  int64_t max_waiting_tokens = int64_t{16} << 20;
  // Unsent results of one request, beyond which its client counts as too slow.
  size_t max_unsent_bytes = 8u << 20;
  // Log-probabilities of one request's prompts, of all choices together; they may wait for a client
  // that reads slowly.
  size_t max_prompt_logprob_bytes = 256u << 20;
};

}  // namespace sheaf
