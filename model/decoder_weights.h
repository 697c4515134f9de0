#pragma once
// DecoderWeights: everything of a checkpoint but the routed experts, as the router's attention
// decoder reads it.
//
// `heads` restricts attention to a range of its heads (one rank of tensor parallelism); the whole
// model is AllHeads(config).
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

namespace sheaf {

struct FeedForwardWeights {
  LoadedLinear gate, up, down;
};

struct LayerWeights {
  std::vector<float> input_norm, post_attention_norm;  // [hidden]
  AttentionWeights attention;                          // of the head range
  FeedForwardWeights
      feed_forward;  // dense layers: the MLP; MoE layers: the shared expert (empty if none)
  kernels::DenseMatrix gate;           // MoE: [num_experts][hidden]
  std::vector<float> correction_bias;  // MoE: [num_experts]
};

struct DecoderWeights {
  std::shared_ptr<const PackedArena> memory;  // what embedding and gates are views of
  kernels::DenseMatrix embedding;  // [vocab][hidden]
  std::vector<LayerWeights> layers;
  std::vector<float> final_norm;
  LoadedLinear lm_head;  // [vocab][hidden]

  size_t resident_bytes() const;

  static absl::StatusOr<std::unique_ptr<DecoderWeights>> Load(
      const Checkpoint& checkpoint, const ModelConfig& config, HeadRange heads,
      ThreadPool& pool, const LoadProgress& progress);
};

}  // namespace sheaf
