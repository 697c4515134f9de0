#include "cli/commands/step_times.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "model/inspect/rank_weights.h"
#include "nlohmann/json.hpp"
#include "router/attention/kv_cache.h"

namespace sheaf {
namespace {

constexpr int kRows[] = {1, 8, 32};
constexpr int64_t kLongContext = 32768;  // tokens

double Milliseconds(double seconds) { return seconds * 1e3; }

}  // namespace

absl::StatusOr<StepTimes> PredictStepTimes(const InspectOptions& options,
                                           const Checkpoint& checkpoint, const ModelConfig& config,
                                           const InspectReport& report) {
  const auto format = kernels::ParseKvFormat(options.kv_cache_dtype);
  if (!format) {
    return absl::InvalidArgumentError(
        absl::StrFormat("--kv-cache-dtype: there is no \"%s\"", options.kv_cache_dtype));
  }
  StepModel model;
  model.config = &config;
  SHEAF_ASSIGN_OR_RETURN(model.shares,
                         ShareAmongRanks(config, std::max(1, options.tensor_parallel_size)));
  SHEAF_ASSIGN_OR_RETURN(model.weights,
                         WeightsOfRanks(checkpoint, config, model.shares, options.lm_head));
  model.workers = options.workers;
  uint64_t experts_bytes = 0;
  // The first of the processes is the router.
  for (size_t i = 1; i < report.processes.size(); ++i) experts_bytes += report.processes[i].bytes;
  const int experts = config.num_moe_layers() * config.num_experts;
  if (experts > 0) model.expert_bytes = experts_bytes / static_cast<uint64_t>(experts);
  constexpr int kTokens = 16;  // of a block
  model.whole_latents = options.latent_cache == "whole";
  const auto planes = KvCache::PlaneBlockBytes(config, model.shares.front().kv(model.whole_latents),
                                               *format, kTokens);
  model.kv_bytes_per_token = std::accumulate(planes.begin(), planes.end(), uint64_t{0}) / kTokens;
  const auto* const latent = std::get_if<LatentShape>(&config.attention);
  if (latent != nullptr && latent->indexer.topk > 0) {
    // The first plane of each layer is its latents, of which indexers choose some; the others are
    // indexers' keys.
    const auto whole = KvCache::PlaneBlockBytes(config, {AllHeads(config)}, *format, kTokens);
    model.kv_bytes_per_token =
        std::accumulate(planes.begin() + config.num_layers, planes.end(), uint64_t{0}) / kTokens;
    model.chosen_bytes_per_token =
        std::accumulate(whole.begin(), whole.begin() + config.num_layers, uint64_t{0}) / kTokens;
  }

  const auto bandwidth = static_cast<double>(options.memory_bandwidth);
  StepMachine machine;
  machine.rank_bytes_per_s = bandwidth;
  machine.worker_bytes_per_s = options.worker_memory_bandwidth > 0
                                   ? static_cast<double>(options.worker_memory_bandwidth)
                                   : bandwidth;
  machine.rank_macs_per_s = machine.worker_macs_per_s = static_cast<double>(options.multiply_adds);
  machine.gather_s = options.link_latency_us * 1e-6;
  machine.exchange_s = 2 * options.link_latency_us * 1e-6;
  machine.link_bytes_per_s = static_cast<double>(options.link_bandwidth);
  machine.shared_cores = options.shared_cores;

  StepTimes times{static_cast<int>(model.shares.size()), model.workers, {}};
  const int64_t longest =
      options.max_model_len > 0 ? options.max_model_len : config.max_position_embeddings;
  for (const int64_t context : {int64_t{0}, std::min(kLongContext, longest)}) {
    for (const int rows : kRows) {
      times.rows.push_back({rows, context, PredictStepTime(model, machine, rows, context)});
    }
  }
  return times;
}

std::string StepTimesText(const StepTimes& times) {
  std::string text = absl::StrFormat(
      "\nA step with %d attention rank%s and %d worker%s would take, in ms (the weights and caches "
      "read, nothing else "
      "in the way):\n  sequences  context    all  tokens/s  attention  caches  gathers  experts  "
      "exchange   head\n",
      times.ranks, times.ranks == 1 ? "" : "s", times.workers, times.workers == 1 ? "" : "s");
  for (const StepTimes::Row& row : times.rows) {
    const StepTime& time = row.time;
    text += absl::StrFormat(
        "  %9d  %7d  %5.1f  %8.1f  %9.1f  %6.1f  %7.2f  %7.1f  %8.2f  %5.1f\n", row.rows,
        row.context_tokens, Milliseconds(time.total_s()), row.rows / time.total_s(),
        Milliseconds(time.weights_s), Milliseconds(time.context_s), Milliseconds(time.gathers_s),
        Milliseconds(time.experts_s), Milliseconds(time.exchange_s), Milliseconds(time.head_s));
  }
  return text;
}

std::string WithStepTimesJson(std::string_view report_json, const StepTimes& times) {
  using Json = nlohmann::ordered_json;
  Json json = Json::parse(report_json);
  json["step_times"] = Json::array();
  for (const StepTimes::Row& row : times.rows) {
    const StepTime& time = row.time;
    json["step_times"].push_back({{"sequences", row.rows},
                                  {"context_tokens", row.context_tokens},
                                  {"ms", Milliseconds(time.total_s())},
                                  {"attention_ms", Milliseconds(time.weights_s)},
                                  {"caches_ms", Milliseconds(time.context_s)},
                                  {"gathers_ms", Milliseconds(time.gathers_s)},
                                  {"experts_ms", Milliseconds(time.experts_s)},
                                  {"exchange_ms", Milliseconds(time.exchange_s)},
                                  {"head_ms", Milliseconds(time.head_s)}});
  }
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace sheaf
