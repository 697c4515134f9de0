#pragma once
// What all attention ranks of a group must have alike: rank 0 says, the others take it.

#include "kernels/attention/kv_format.h"
#include "kernels/linear/quantized_rows.h"
#include "model/lm_head.h"

namespace sheaf {

// Which parts of a step the ranks make and put together, in which order and by which settings. Of
// other versions no two processes can share a step; JoinRankRequest.gathers.
inline constexpr int kRankGathersVersion = 3;

struct RankSettings {
  int num_ranks = 1;
  LmHeadDtype lm_head = LmHeadDtype::kAuto;  // of each one's rows of it
  kernels::KvFormat kv_format = kernels::KvFormat::kBF16;
  int block_size = 16;  // tokens
  int num_blocks = 0;
  bool whole_latents = false;  // --latent-cache
  int max_batched_tokens = 0;
  int max_model_len = 0;  // tokens
  kernels::ActivationBits activation_bits = kernels::ActivationBits::k16;
};

}  // namespace sheaf
