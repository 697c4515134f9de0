#pragma once
// Attention: the part of a decoder layer in which tokens see each other, and in which the two model
// families differ. Everything around it (residual, norms, feed-forward, head) is the decoder's.
//
//   attended[r] = attention(normed[r], everything before it in its sequence), before o_proj
//
// A call also stores what the step's tokens leave in the cache for later ones. Of several ranks
// each attends with its own heads; what all heads need is made in parts, which the ranks put
// together.
//
// Numbers    a row's result depends on its sequence alone: not on its neighbours, the chunk it
//            comes in, block ids or threads.
// Ownership  implementations borrow weights, cache, RoPE table and pool, which outlive them.
// Threads    the step thread; an implementation uses the whole pool.
// Errors     those of a gather among ranks (router/attention/rank_rows.h); a single rank has none.

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "base/thread_pool.h"
#include "exchange/gather/rank_group.h"
#include "kernels/attention/rope.h"
#include "kernels/linear/linear.h"
#include "model/config.h"
#include "model/decoder_weights.h"
#include "model/rank_share.h"
#include "router/attention/kv_cache.h"
#include "router/attention/rank_rows.h"
#include "router/attention/step_timings.h"

namespace sheaf {

// One token of the step. Tokens of a sequence are neighbours, positions ascending.
struct StepRow {
  int sequence = 0;  // index in the batch
  int position = 0;  // in its sequence
  const int32_t* block_table = nullptr;
};

class Attention {
 public:
  virtual ~Attention() = default;

  // normed holds a row for each of `rows`; attended [rows][the rank's attended columns]. Layers
  // come in ascending order, each once a step. Of several ranks every one makes the same calls.
  virtual absl::Status Run(int layer, std::span<const StepRow> rows,
                           const kernels::Activations& normed, float* attended) = 0;

  // Between layers: of the step's rows only these, ascending, are left (step_watch.h).
  virtual void KeepRows(std::span<const int> /*kept*/) {}
};

// What one of several ranks puts parts together with.
struct AttentionRanks {
  RankGroup& group;
  RankRows& rows;
  const std::vector<RankShare>& shares;  // of all, ascending
};

struct AttentionParts {
  const ModelConfig& config;
  const DecoderWeights& weights;
  const RankShare& share;  // this rank's
  const KvCache& cache;
  ThreadPool& pool;
  int max_batched_tokens = 0;  // rows of one Run
  int max_model_len = 0;       // positions
  StepTimings* timings = nullptr;
  const AttentionRanks* ranks = nullptr;  // null: a single one
  // of what products with integer weights read
  kernels::ActivationBits activation_bits = kernels::ActivationBits::k16;
};

// The kind that the config names.
std::unique_ptr<Attention> MakeAttention(const AttentionParts& parts);

}  // namespace sheaf
