#pragma once
// Decoder: one forward pass of the model over a batch of tokens from many sequences, chunked
// prefill and decode mixed; the routed experts are behind exchange/expert_layer.h, wherever they
// live.
//
//   h = embedding[token]
//   per layer:  h += attention(norm(h))                    over the paged KV cache (attention.h)
//               h += MLP(norm(h))   or   routed experts (ascending id) + shared expert
//   logits = lm_head(norm(h)), on the rows that ask for them only
//
// Numbers    float32 throughout; a row is quantized once per product's input. A row's result
//            depends on its sequence alone: not on its neighbours, the chunk it comes in, block ids
//            or threads.
// Ranks      with DecoderRanks, one rank of tensor parallelism: every rank makes its rows of each
//            product (model/rank_share.h) and the same Forward with the same batch, has all of the
//            residual, and gets the same bytes as a single rank. Rank 0 alone has the experts, the
//            watch and the logits, and begins the others' steps. Four gathers a layer, one for the
//            logits. Rows of what is over stay until all are.
// Ownership  borrows weights, cache, expert layer and pool, which outlive it. Scratch for
//            max_batched_tokens rows is reserved once and touched as needed.
// Threads    Forward: the step thread only; it uses the whole pool.
// Watch      with a StepWatch, sequences that are over leave the step at the next half of a layer,
//            and the pool's lookout is Forward's; when none is left Forward ends, inside a stage
//            too.
// Errors     those of ExpertLayer and of RankGroup, which is aborted with the former (the batch's
//            K/V rows are then undefined and its sequences must end or be recomputed).
//            kInvalidArgument: more tokens than max_batched_tokens or an id outside the vocabulary.
//            kAborted: every sequence of the batch is over.
// Cost       a step reads every dense weight once per 12 rows, and each touched expert.

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "base/ids.h"
#include "base/thread_pool.h"
#include "exchange/expert_layer.h"
#include "exchange/gather/rank_group.h"
#include "kernels/linear/quantized_rows.h"
#include "model/config.h"
#include "model/decoder_weights.h"
#include "model/rank_share.h"
#include "router/attention/kv_cache.h"
#include "router/attention/step_timings.h"
#include "router/attention/step_watch.h"

namespace sheaf {

struct DecoderOptions {
  int max_batched_tokens = 2048;   // rows of one Forward
  int max_model_len = 0;           // positions; the RoPE table's length
  int max_logit_rows = 48;         // rows of logits alive at once
  // of what products with integer weights read
  kernels::ActivationBits activation_bits = kernels::ActivationBits::k16;
  // Park the pool before waiting for experts: whoever computes them needs its cores.
  bool experts_share_cores = false;
  StepTimings* timings = nullptr;  // measured if not null
};

// The new tokens of one sequence in this step.
struct StepSequence {
  std::span<const TokenId> tokens;       // at positions first_position, first_position + 1, ...
  int first_position = 0;                // everything before it is in the cache
  std::span<const int32_t> block_table;  // covers first_position + tokens.size() positions
  int first_logit_token = 0;  // tokens[first_logit_token ..] want logits; tokens.size(): none
};

struct StepBatch {
  StepId step;
  std::span<const StepSequence> sequences;
};

// Logits of some rows, in the order of the batch. The callee may change them in place.
struct LogitRows {
  struct Source {
    int sequence = 0;  // index in StepBatch::sequences
    int token = 0;     // index in its tokens
  };
  std::span<const Source> sources;
  float* values = nullptr;  // [sources.size()][vocab_size]
  int vocab_size = 0;

  std::span<float> row(size_t i) const { return {values + i * vocab_size, size_t(vocab_size)}; }
};

// A place among ranks.
struct DecoderRanks {
  std::vector<RankShare> shares;  // of all of them, ascending: ShareAmongRanks
  RankGroup* group = nullptr;     // this rank's end
};

class Decoder {
 public:
  // The whole model.
  Decoder(const ModelConfig& config, const DecoderWeights& weights, const KvCache& cache,
          ExpertLayer& experts, ThreadPool& pool, const DecoderOptions& options);
  // One rank of it. `experts`: of rank 0, else null.
  Decoder(const ModelConfig& config, const DecoderWeights& weights, const KvCache& cache,
          const DecoderRanks& ranks, ExpertLayer* experts, ThreadPool& pool,
          const DecoderOptions& options);
  ~Decoder();

  // Calls on_logits on this thread, at most max_logit_rows rows at a time, each wanted row once,
  // after every layer has succeeded. The pool is free during the call, and nobody looks meanwhile.
  // `watch` may be null; rows of what is over by then are left out.
  absl::Status Forward(const StepBatch& batch,
                       const std::function<void(const LogitRows&)>& on_logits,
                       StepWatch* watch = nullptr);

  int vocab_size() const;
  const DecoderOptions& options() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sheaf
