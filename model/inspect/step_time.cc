#include "model/inspect/step_time.h"

#include <algorithm>
#include <cmath>

namespace sheaf {
namespace {

constexpr double kFloat = 4;
constexpr double kGroupBytes = 260.0 / 128;  // of a value: int16 and its part of a scale
constexpr double kWeightsPerByte = 2;        // of 4 bits

double Over(double amount, double per_s) { return per_s > 0 ? amount / per_s : 0; }

// Reading, and multiplying each weight with every row. Part of the one hides behind the other: of a
// few rows a product takes longer than either, which the norm of order 3 follows (1, 3 and 12 rows
// of an expert: within 7 % on AVX-512).
double ProductSeconds(double bytes, double rows, double bytes_per_s, double macs_per_s) {
  const double reading = Over(bytes, bytes_per_s);
  const double multiplying = Over(bytes * kWeightsPerByte * rows, macs_per_s);
  return std::cbrt(reading * reading * reading + multiplying * multiplying * multiplying);
}

// The inverse of the normal distribution, by bisection.
double NormalQuantile(double p) {
  double low = -10, high = 10;
  for (int i = 0; i < 60; ++i) {
    const double middle = (low + high) / 2;
    (0.5 * std::erfc(-middle / std::sqrt(2.0)) < p ? low : high) = middle;
  }
  return low;
}

// Bytes of a gather's parts that rank 0, whose link carries the most, sends and receives for a row.
struct GatherBytes {
  double layer_moe = 0, layer_dense = 0, step = 0;
  double attention = 0;  // of all layers, beside those
};

// Gathers that latent attention has beside the others, of all layers.
int GathersOfLatents(const LatentShape& latent, int num_layers, bool whole_latents,
                     int64_t context_tokens) {
  if (latent.indexer.topk == 0) return num_layers;
  const auto full = std::count(latent.indexer.is_full.begin(), latent.indexer.is_full.end(), true);
  const bool asks = context_tokens >= latent.indexer.topk;
  return (whole_latents ? 1 : 2) * num_layers + (asks ? 2 * static_cast<int>(full) : 0);
}

int64_t ChosenTokens(const LatentShape& latent, int64_t context_tokens) {
  return std::min<int64_t>(context_tokens, latent.indexer.topk);
}

GatherBytes BytesOfGathers(const StepModel& model, int64_t context_tokens) {
  const ModelConfig& config = *model.config;
  const auto ranks = static_cast<double>(model.shares.size());
  const double attended = model.shares.back().attended.end();
  // A star: each part comes to rank 0 once and goes on to every other rank.
  const auto star = [&](double row_bytes) { return row_bytes / ranks * (ranks - 1) * ranks; };
  const double attention = star(kGroupBytes * attended) + star(kFloat * config.hidden_size);
  const double routed = kFloat * config.hidden_size * (ranks - 1);
  GatherBytes bytes;
  bytes.layer_dense =
      attention + star(kGroupBytes * config.intermediate_size) + star(kFloat * config.hidden_size);
  bytes.layer_moe = attention + star(kFloat * config.num_experts) + routed;
  if (config.num_shared_experts > 0)
    bytes.layer_moe +=
        star(kGroupBytes * config.shared_intermediate_size()) + star(kFloat * config.hidden_size);
  bytes.step = star(kFloat * config.hidden_size) + kFloat * config.vocab_size / ranks * (ranks - 1);
  if (const auto* const latent = std::get_if<LatentShape>(&config.attention)) {
    const IndexerShape& indexer = latent->indexer;
    const auto full =
        static_cast<double>(std::count(indexer.is_full.begin(), indexer.is_full.end(), true));
    bytes.attention =
        config.num_layers * star(kFloat * (latent->q_lora_rank + latent->cached_dim())) +
        full * star(kFloat * (indexer.head_dim + indexer.num_heads));
    if (!model.whole_latents) {
      bytes.attention += star(static_cast<double>(model.chosen_bytes_per_token) *
                              static_cast<double>(ChosenTokens(*latent, context_tokens)));
    }
    // Each rank has as many candidates as are chosen, of a score and a position.
    if (indexer.topk > 0 && context_tokens >= indexer.topk) {
      bytes.attention += full * (star(kFloat * indexer.num_heads * indexer.head_dim) +
                                 star(2 * kFloat * indexer.topk * ranks));
    }
  }
  return bytes;
}

}  // namespace

double TouchedExperts(int experts, int top_k, int rows) {
  if (experts <= 0) return 0;
  return experts * (1 - std::pow(1 - static_cast<double>(top_k) / experts, rows));
}

double MostOfAWorker(double touched, int workers) {
  if (workers <= 1) return touched;
  const double mean = touched / workers;
  const double largest = NormalQuantile((workers - 0.375) / (workers + 0.25));
  return std::min(touched, mean + largest * std::sqrt(mean));
}

StepTime PredictStepTime(const StepModel& model, const StepMachine& machine, int rows,
                         int64_t context_tokens) {
  const ModelConfig& config = *model.config;
  const double row_count = rows;
  const auto slowest = [&](uint64_t RankWeights::*part) {
    uint64_t most = 0;
    for (const RankWeights& weights : model.weights) most = std::max(most, weights.*part);
    return ProductSeconds(static_cast<double>(most), row_count, machine.rank_bytes_per_s,
                          machine.rank_macs_per_s);
  };
  const double moe_layers = config.num_moe_layers();
  const double dense_layers = config.num_layers - config.num_moe_layers();
  StepTime time;
  time.weights_s = slowest(&RankWeights::dense_layers) + slowest(&RankWeights::moe_layers);
  time.head_s = slowest(&RankWeights::head);
  const auto* const latent = std::get_if<LatentShape>(&config.attention);
  const int64_t chosen = latent == nullptr ? 0 : ChosenTokens(*latent, context_tokens);
  time.context_s = Over(row_count * (static_cast<double>(context_tokens) *
                                         static_cast<double>(model.kv_bytes_per_token) +
                                     static_cast<double>(chosen) *
                                         static_cast<double>(model.chosen_bytes_per_token)),
                        machine.rank_bytes_per_s);

  const double ranks = static_cast<double>(model.shares.size());
  if (ranks > 1) {
    const GatherBytes bytes = BytesOfGathers(model, context_tokens);
    const int of_latents =
        latent == nullptr
            ? 0
            : GathersOfLatents(*latent, config.num_layers, model.whole_latents, context_tokens);
    const double trips = ranks > 2 ? 2 : 1;  // through rank 0
    time.gathers_s =
        trips * machine.gather_s * (4 * config.num_layers + of_latents + 2) +
        Over(row_count * (moe_layers * bytes.layer_moe + dense_layers * bytes.layer_dense +
                          bytes.attention + bytes.step),
             machine.link_bytes_per_s);
  }

  if (moe_layers > 0) {
    const double touched = TouchedExperts(config.num_experts, config.experts_per_token, rows);
    const double pairs = row_count * config.experts_per_token;
    const double rows_of_expert = std::max(1.0, pairs / std::max(1.0, touched));
    const auto seconds_of = [&](double experts) {
      return ProductSeconds(experts * static_cast<double>(model.expert_bytes), rows_of_expert,
                            machine.worker_bytes_per_s, machine.worker_macs_per_s);
    };
    const double most = seconds_of(MostOfAWorker(touched, model.workers));
    const double shared = slowest(&RankWeights::shared_experts) / moe_layers;
    const double beside =
        machine.shared_cores ? seconds_of(touched / model.workers) + shared : shared;
    time.experts_s = moe_layers * std::max(most, beside);
    const double row_bytes =
        kGroupBytes * config.hidden_size +                       // out, once a worker at most
        kFloat * config.hidden_size * config.experts_per_token;  // back, one vector a pair
    time.exchange_s =
        moe_layers * (machine.exchange_s + Over(row_count * row_bytes, machine.link_bytes_per_s));
  }
  return time;
}

}  // namespace sheaf
