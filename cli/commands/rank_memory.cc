#include "cli/commands/rank_memory.h"

#include <algorithm>
#include <variant>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "model/inspect/rank_weights.h"
#include "nlohmann/json.hpp"
#include "router/attention/decoder.h"
#include "router/attention/kv_cache.h"
#include "router/attention/latent/latent_attention.h"

namespace sheaf {
namespace {

constexpr int kBlockSize = 16;  // tokens

std::string Gigabytes(uint64_t bytes) {
  return absl::StrFormat("%.2f GB", static_cast<double>(bytes) / 1e9);
}

// Of the decoder's buffers, for the largest step that is the default.
uint64_t ScratchBytes(const ModelConfig& config, const RankShare& share, const KvShare& kv) {
  const bool alone = share.num_ranks == 1;
  const DecoderOptions options;
  const int64_t inner = std::max(share.dense_inner.count, share.shared_inner.count);
  const int64_t widest = std::max(config.intermediate_size, config.shared_intermediate_size());
  const int64_t attended =
      config.num_heads * (share.attended.count / std::max(1, share.heads.num_queries));
  int64_t floats = 4 * int64_t{config.hidden_size} + attended + 2 * inner + config.num_experts;
  if (!alone) floats += share.attended.count + share.hidden.count + share.gate.count + widest;
  uint64_t bytes_at_once = 0;
  if (const auto* const latent = std::get_if<LatentShape>(&config.attention)) {
    const int index =
        latent->indexer.topk > 0
            ? latent->indexer.head_dim * (latent->indexer.num_heads + 1) + latent->indexer.topk
            : 0;
    floats += (alone ? 1 : 2) * int64_t{latent->q_lora_rank + latent->cached_dim()} + index;
    bytes_at_once = LatentAttention::BytesAtOnce(*latent, kv);
  }
  // Projected queries, keys and values, and the int16 groups of what products read.
  floats += 2 * int64_t{share.attended.count} + config.hidden_size + attended + widest;
  return sizeof(float) * (static_cast<uint64_t>(options.max_batched_tokens * floats) +
                          static_cast<uint64_t>(options.max_logit_rows) * config.vocab_size) +
         bytes_at_once;
}

}  // namespace

absl::StatusOr<RankMemoryPlan> PlanRankMemory(const InspectOptions& options,
                                              const Checkpoint& checkpoint,
                                              const ModelConfig& config,
                                              const InspectReport& report) {
  const auto format = kernels::ParseKvFormat(options.kv_cache_dtype);
  if (!format) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "--kv-cache-dtype: wanted auto, float32, bfloat16, fp8, fp8_e4m3 or fp8_e5m2, got \"%s\"",
        options.kv_cache_dtype));
  }
  SHEAF_ASSIGN_OR_RETURN(const std::vector<RankShare> shares,
                         ShareAmongRanks(config, options.tensor_parallel_size));
  SHEAF_ASSIGN_OR_RETURN(const std::vector<RankWeights> weights,
                         WeightsOfRanks(checkpoint, config, shares, options.lm_head));
  RankMemoryPlan plan;
  plan.tokens = options.max_model_len > 0 ? options.max_model_len : config.max_position_embeddings;
  plan.kv_cache_dtype = std::string(kernels::KvFormatName(*format));
  plan.device_bytes = options.device_memory_bytes;
  const uint64_t blocks = (static_cast<uint64_t>(plan.tokens) + kBlockSize - 1) / kBlockSize;
  for (const RankShare& share : shares) {
    const KvShare kv = share.kv(options.latent_cache == "whole");
    const KvCacheOptions one{*format, kBlockSize,
                             KvCache::BlockBytes(config, kv, *format, kBlockSize)};
    SHEAF_RETURN_IF_ERROR(KvCache::NumBlocks(config, kv, one).status());
    RankMemory rank;
    rank.weight_bytes = weights[static_cast<size_t>(share.rank)].total();
    rank.kv_cache_bytes = blocks * one.memory_bytes;
    rank.scratch_bytes = ScratchBytes(config, share, kv);
    // The first of the processes is the router.
    if (report.processes.size() == shares.size() + 1) {
      rank.expert_bytes = report.processes[static_cast<size_t>(share.rank) + 1].bytes;
    }
    plan.ranks.push_back(rank);
  }
  return plan;
}

std::string RankMemoryText(const RankMemoryPlan& plan) {
  std::string text =
      absl::StrFormat("\nMemory of each attention rank, KV cache of %d tokens (%s):\n", plan.tokens,
                      plan.kv_cache_dtype);
  uint64_t most = 0;
  for (size_t rank = 0; rank < plan.ranks.size(); ++rank) {
    const RankMemory& memory = plan.ranks[rank];
    text += absl::StrFormat("  rank %-3d weights %s, KV cache %s, scratch %s", rank,
                            Gigabytes(memory.weight_bytes), Gigabytes(memory.kv_cache_bytes),
                            Gigabytes(memory.scratch_bytes));
    if (memory.expert_bytes > 0) {
      text += absl::StrFormat(", worker %d beside it %s", rank, Gigabytes(memory.expert_bytes));
    }
    text += absl::StrFormat(": %s\n", Gigabytes(memory.total()));
    most = std::max(most, memory.total());
  }
  if (plan.device_bytes > 0) {
    const bool fits = most <= plan.device_bytes;
    text += absl::StrFormat("  %s in %s each: %s %s\n", fits ? "It fits" : "It does not fit",
                            Gigabytes(plan.device_bytes),
                            Gigabytes(fits ? plan.device_bytes - most : most - plan.device_bytes),
                            fits ? "to spare" : "too much");
  }
  return text;
}

std::string WithRanksJson(std::string_view report_json, const RankMemoryPlan& plan) {
  using Json = nlohmann::ordered_json;
  Json json = Json::parse(report_json);
  json["attention_ranks"] = Json::array();
  for (const RankMemory& memory : plan.ranks) {
    Json rank = {{"weight_bytes", memory.weight_bytes},
                 {"kv_cache_bytes", memory.kv_cache_bytes},
                 {"scratch_bytes", memory.scratch_bytes},
                 {"expert_bytes", memory.expert_bytes},
                 {"bytes", memory.total()}};
    if (plan.device_bytes > 0) rank["fits"] = memory.total() <= plan.device_bytes;
    json["attention_ranks"].push_back(std::move(rank));
  }
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace sheaf
