#pragma once
// DecoderWeights: everything of a checkpoint but the routed experts, as the router's attention
// decoder reads it.
//
// `share` restricts it to what one rank of tensor parallelism makes (model/rank_share.h): the rows
// of every product that are the rank's. Of the embedding it has columns.
//
// Ownership  owns all of it; the Checkpoint and its files are not needed after Load.
// Threads    Load uses the pool; afterwards constant.
// Errors     as model/linear_loader.h; kDataLoss when a file of the checkpoint changed meanwhile.

#include <cstddef>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "base/thread_pool.h"
#include "kernels/linear/linear.h"
#include "model/attention/attention_weights.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/expert_slice.h"
#include "model/linear_loader.h"
#include "model/lm_head.h"
#include "model/rank_share.h"

namespace sheaf {

struct FeedForwardWeights {
  LoadedLinear gate, up, down;
};

struct LayerWeights {
  std::vector<float> input_norm, post_attention_norm;  // [hidden]
  AttentionWeights attention;                          // of the rank's heads
  LoadedLinear attention_out;                          // o_proj
  FeedForwardWeights
      feed_forward;  // dense layers: the MLP; MoE layers: the shared expert (empty if none)
  kernels::DenseMatrix gate;           // MoE: [experts][hidden]
  std::vector<float> correction_bias;  // MoE: [num_experts]
};

struct DecoderWeights {
  std::shared_ptr<const PackedArena> memory;  // what embedding and gates are views of
  kernels::DenseMatrix embedding;  // [vocab][the rank's columns of hidden]
  std::vector<LayerWeights> layers;
  std::vector<float> final_norm;
  LoadedLinear lm_head;  // [vocab][hidden], the rank's rows

  size_t resident_bytes() const;

  static absl::StatusOr<std::unique_ptr<DecoderWeights>> Load(
      const Checkpoint& checkpoint, const ModelConfig& config, const RankShare& share,
      ThreadPool& pool, const LoadProgress& progress, LmHeadDtype lm_head = LmHeadDtype::kAuto);
};

}  // namespace sheaf
