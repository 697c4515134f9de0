#pragma once
// StepTime: how long a step would take with k attention ranks and W workers, from bytes, bandwidths
// and latencies.
//
//   layer   = weights of a rank / what it reads a second   (and its multiply-adds, which hide
//           behind it in part) + the context's keys and values / the same + gathers: latency of
//           one, and bytes over the link's bandwidth + experts: those of the most loaded worker /
//           what it reads a second + their exchange: latency, and bytes over the link's bandwidth
//   step    = all layers + the head
//
// Experts    tokens choose theirs independently and evenly: of E experts, 1 - (1 - top_k/E)^rows
//            are read. The most loaded of W workers has more than a W-th of them: a normal
//            distribution's largest of W.
// Beside     the shared expert runs while the experts are away. Where ranks and workers share their
//            cores it runs on what the workers leave: a layer takes as long as all of it spread
//            evenly over the cores, or as the most loaded worker, whichever is longer (a worker
//            keeps to its own threads; W threads on W cores are meant).
// Indexers   bound the latents that a row reads, of which several ranks gather the parts that each
//            keeps; their keys are read whole, by each rank its part.
// Left out   norms, rotations, softmax, an indexer's arithmetic, sampling, the network's other
//            users, prefill's attention beyond its reading.
//
// Units      bytes, seconds. Threads: pure. Source: docs/performance.md says how far it was off.

#include <cstdint>
#include <vector>

#include "model/config.h"
#include "model/inspect/rank_weights.h"
#include "model/rank_share.h"

namespace sheaf {

struct StepMachine {
  double rank_bytes_per_s = 0;    // weights that a rank reads
  double worker_bytes_per_s = 0;  // weights that a worker reads
  double rank_macs_per_s = 0;     // multiply-adds; 0: never the bound
  double worker_macs_per_s = 0;
  double gather_s = 0;          // of a gather without bytes, between two ranks
  double exchange_s = 0;        // of a dispatch and its answer without bytes and computing
  double link_bytes_per_s = 0;  // of a process; 0: within a host, memory's own
  bool shared_cores = false;    // ranks and workers have the same cores
};

struct StepModel {
  const ModelConfig* config = nullptr;
  std::vector<RankShare> shares;
  std::vector<RankWeights> weights;  // by rank
  uint64_t expert_bytes = 0;         // of one routed expert
  // of one rank, all layers: what a row reads of every position before it
  uint64_t kv_bytes_per_token = 0;
  // of all ranks, all layers: what it reads of at most index_topk positions
  uint64_t chosen_bytes_per_token = 0;
  bool whole_latents = false;  // on each rank (--latent-cache): none of them is gathered
  int workers = 1;
};

struct StepTime {
  double weights_s = 0;  // of ranks: attention, dense and shared feed-forwards, gates
  double context_s = 0;
  double gathers_s = 0;
  double experts_s = 0;
  double exchange_s = 0;
  double head_s = 0;

  double total_s() const {
    return weights_s + context_s + gathers_s + experts_s + exchange_s + head_s;
  }
};

// Of a step of `rows` rows, each at the end of a context of so many tokens.
StepTime PredictStepTime(const StepModel& model, const StepMachine& machine, int rows,
                         int64_t context_tokens);

// Of `experts` that tokens choose `top_k` of: how many `rows` rows touch, and how many of those the
// most loaded of `workers` has.
double TouchedExperts(int experts, int top_k, int rows);
double MostOfAWorker(double touched, int workers);

}  // namespace sheaf
