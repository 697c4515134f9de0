#include "cli/process/preflight.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "model/absent_tensors.h"
#include "model/inspect/rank_weights.h"
#include "model/model_layout.h"

namespace sheaf {
namespace {

// What the router keeps of the KV cache.
absl::StatusOr<KvShare> RankZero(const RouterOptions& options, const ModelConfig& config) {
  SHEAF_ASSIGN_OR_RETURN(const RankShare share,
                         ShareOfRank(config, 0, options.tensor_parallel_size));
  return share.kv(options.whole_latents);
}

// Of a block: of each rank, and of all of them.
struct BlockParts {
  std::vector<size_t> bytes;  // by rank
  size_t all = 0;

  double share(size_t rank) const {
    return static_cast<double>(bytes[rank]) / static_cast<double>(all);
  }
};

BlockParts PartsOfBlock(const RouterOptions& options, const ModelConfig& config,
                        const std::vector<RankShare>& shares) {
  BlockParts parts;
  for (const RankShare& share : shares) {
    parts.bytes.push_back(KvCache::BlockBytes(config, share.kv(options.whole_latents),
                                              options.kv_format, options.block_size));
    parts.all += parts.bytes.back();
  }
  return parts;
}

// Positions that the RoPE table and one sequence can have.
absl::StatusOr<int> MaxModelLen(const RouterOptions& options, const ModelConfig& config,
                                const KvCacheOptions& kv_cache) {
  SHEAF_ASSIGN_OR_RETURN(const KvShare share, RankZero(options, config));
  SHEAF_ASSIGN_OR_RETURN(const int blocks, KvCache::NumBlocks(config, share, kv_cache));
  const int64_t capacity_tokens = int64_t{blocks} * options.block_size;
  if (options.max_model_len == 0) {
    return static_cast<int>(std::min<int64_t>(config.max_position_embeddings, capacity_tokens));
  }
  if (options.max_model_len > config.max_position_embeddings) {
    return absl::InvalidArgumentError(
        absl::StrFormat("--max-model-len: wanted at most the model's %d positions, got %d",
                        config.max_position_embeddings, options.max_model_len));
  }
  if (options.max_model_len > capacity_tokens) {
    return absl::InvalidArgumentError(
        absl::StrFormat("--max-model-len: %d tokens do not fit the KV cache, which holds %d; raise "
                        "--kv-cache-memory-bytes",
                        options.max_model_len, capacity_tokens));
  }
  return static_cast<int>(options.max_model_len);
}

// Of every process of this server on this machine.
uint64_t WeightBytes(const RouterOptions& options, const InspectReport& report) {
  const bool with_workers =
      options.workers_are_here || options.transport == TransportKind::kInProcess;
  uint64_t bytes = 0;
  for (const ProcessShare& share : report.processes) {
    bytes += share.bytes + share.absorbed_bytes;
    if (!with_workers) break;  // the router's is the first
  }
  return bytes;
}

// For each process by itself, where they are bound to NUMA nodes.
absl::StatusOr<ServerWeights> WeightsByProcess(const RouterOptions& options,
                                               const Preflight& preflight) {
  const ModelConfig& config = *preflight.config;
  ServerWeights weights;
  for (const ProcessShare& share : preflight.report.processes) {
    const uint64_t bytes = share.bytes + share.absorbed_bytes;
    if (&share == preflight.report.processes.data()) {
      weights.rank_bytes = bytes;  // the router's is the first
    } else {
      weights.worker_bytes.push_back(bytes);
    }
  }
  if (options.tensor_parallel_size == 1) return weights;
  SHEAF_ASSIGN_OR_RETURN(const std::vector<RankShare> shares,
                         ShareAmongRanks(config, options.tensor_parallel_size));
  SHEAF_ASSIGN_OR_RETURN(const std::vector<RankWeights> ranks,
                         WeightsOfRanks(*preflight.checkpoint, config, shares, options.lm_head));
  weights.rank_bytes = 0;
  for (const RankWeights& rank : ranks)
    weights.rank_bytes = std::max(weights.rank_bytes, rank.total());
  const BlockParts parts = PartsOfBlock(options, config, shares);
  weights.kv_share = 0;
  for (size_t rank = 0; rank < shares.size(); ++rank)
    weights.kv_share = std::max(weights.kv_share, parts.share(rank));
  return weights;
}

// Bytes for the cache of all ranks, of which this process holds rank 0's part and no other: the
// others are processes of other commands, with limits of their own.
absl::StatusOr<int64_t> KvMemoryOfRankZero(const RouterOptions& options, const Preflight& preflight,
                                           const MemoryLimits& memory) {
  const ModelConfig& config = *preflight.config;
  SHEAF_ASSIGN_OR_RETURN(const std::vector<RankShare> shares,
                         ShareAmongRanks(config, options.tensor_parallel_size));
  SHEAF_ASSIGN_OR_RETURN(const std::vector<RankShare> whole, ShareAmongRanks(config, 1));
  SHEAF_ASSIGN_OR_RETURN(const std::vector<RankWeights> weights,
                         WeightsOfRanks(*preflight.checkpoint, config, shares, options.lm_head));
  SHEAF_ASSIGN_OR_RETURN(const std::vector<RankWeights> whole_weights,
                         WeightsOfRanks(*preflight.checkpoint, config, whole, options.lm_head));
  const uint64_t all = whole_weights.front().total();
  const uint64_t elsewhere = all - std::min(all, weights.front().total());
  const uint64_t here = WeightBytes(options, preflight.report);
  const double part = PartsOfBlock(options, config, shares).share(0);
  const int64_t wanted = options.kv_cache_memory_bytes;
  const bool is_auto = wanted == kAutoKvMemory;
  const auto own =
      KvMemory(is_auto ? wanted : static_cast<int64_t>(static_cast<double>(wanted) * part),
               here - std::min(here, elsewhere), memory);
  if (!own.ok()) {
    return absl::Status(
        own.status().code(),
        absl::StrFormat("%s (of attention rank 0 of %d, which has %.0f %% of a block)",
                        own.status().message(), options.tensor_parallel_size, 100 * part));
  }
  return is_auto ? static_cast<int64_t>(static_cast<double>(*own) / part) : wanted;
}

absl::StatusOr<KvCacheOptions> PlanKvCache(const RouterOptions& options, const Preflight& preflight,
                                           const MemoryLimits* memory) {
  KvCacheOptions plan{.format = options.kv_format, .block_size = options.block_size};
  int64_t bytes = options.kv_cache_memory_bytes;
  // Whether ranks can share such blocks at all.
  SHEAF_ASSIGN_OR_RETURN(const KvShare share, RankZero(options, *preflight.config));
  plan.memory_bytes = std::numeric_limits<size_t>::max();
  SHEAF_RETURN_IF_ERROR(KvCache::NumBlocks(*preflight.config, share, plan).status());
  if (memory != nullptr && options.tensor_parallel_size > 1 && !options.workers_are_here) {
    SHEAF_ASSIGN_OR_RETURN(bytes, KvMemoryOfRankZero(options, preflight, *memory));
  } else if (memory != nullptr) {
    SHEAF_ASSIGN_OR_RETURN(bytes, KvMemory(bytes, WeightBytes(options, preflight.report), *memory));
  }
  if (memory != nullptr && !options.node_loads.empty()) {
    SHEAF_ASSIGN_OR_RETURN(const ServerWeights weights, WeightsByProcess(options, preflight));
    SHEAF_ASSIGN_OR_RETURN(const int64_t on_nodes, KvMemoryOnNodes(options.kv_cache_memory_bytes,
                                                                   weights, options.node_loads));
    bytes = std::min(bytes, on_nodes);
  }
  plan.memory_bytes = static_cast<size_t>(bytes);
  if (options.tensor_parallel_size == 1) return plan;
  // The router's own part of as many blocks as all ranks' memory holds.
  SHEAF_ASSIGN_OR_RETURN(const std::vector<RankShare> shares,
                         ShareAmongRanks(*preflight.config, options.tensor_parallel_size));
  const BlockParts parts = PartsOfBlock(options, *preflight.config, shares);
  plan.memory_bytes = plan.memory_bytes / parts.all * parts.bytes.front();
  return plan;
}

// What comes after the tensors.
absl::Status OpenText(const RouterOptions& options, const MemoryLimits* memory,
                      Preflight& preflight) {
  ModelConfig& config = *preflight.config;
  SHEAF_ASSIGN_OR_RETURN(
      preflight.text,
      CheckpointText::Load(options.process.checkpoint, static_cast<size_t>(config.vocab_size),
                           {options.tool_call_parser, options.reasoning_parser},
                           options.escape_special_tokens));
  preflight.stop_ids = preflight.text->StopIds(config.eos_token_ids);
  config.eos_token_ids = preflight.stop_ids.Ids();
  const auto remark = [&](const std::vector<std::string>& more) {
    preflight.report.remarks.insert(preflight.report.remarks.end(), more.begin(), more.end());
  };
  remark(preflight.text->remarks());
  remark(preflight.stop_ids.remarks);
  SHEAF_ASSIGN_OR_RETURN(preflight.kv_cache, PlanKvCache(options, preflight, memory));
  SHEAF_ASSIGN_OR_RETURN(preflight.max_model_len, MaxModelLen(options, config, preflight.kv_cache));
  return absl::OkStatus();
}

}  // namespace

Preflight RunPreflight(const RouterOptions& options, const MemoryLimits* memory) {
  Preflight preflight;
  const std::string& directory = options.process.checkpoint;
  auto checkpoint = Checkpoint::Open(directory);
  if (!checkpoint.ok()) {
    preflight.report.directory = directory;
    preflight.report.refusal = std::string(checkpoint.status().message());
    return preflight;
  }
  preflight.checkpoint = *std::move(checkpoint);
  auto config = LoadModelConfig(directory);
  if (config.ok()) FitVocabulary(*preflight.checkpoint, *config);
  preflight.report =
      InspectTensors(*preflight.checkpoint, config, options.pool.workers, options.lm_head);
  if (!config.ok()) return preflight;
  preflight.config = *std::move(config);
  const absl::Status text = OpenText(options, memory, preflight);
  if (!text.ok() && preflight.report.refusal.empty()) {
    preflight.report.refusal = std::string(text.message());
    preflight.report.processes.clear();
  }
  return preflight;
}

absl::StatusOr<WorkerPreflight> RunWorkerPreflight(const std::string& checkpoint_dir) {
  WorkerPreflight preflight;
  SHEAF_ASSIGN_OR_RETURN(preflight.checkpoint, Checkpoint::Open(checkpoint_dir));
  SHEAF_ASSIGN_OR_RETURN(preflight.config, LoadModelConfig(checkpoint_dir));
  SHEAF_RETURN_IF_ERROR(JudgeAbsentTensors(*preflight.checkpoint, preflight.config).status());
  FitVocabulary(*preflight.checkpoint, preflight.config);
  const absl::Status experts = CheckExperts(*preflight.checkpoint, preflight.config);
  // Its files are all there, so no second look finds the tensor: not like a file that is absent.
  if (absl::IsNotFound(experts)) return absl::FailedPreconditionError(experts.message());
  SHEAF_RETURN_IF_ERROR(experts);
  return preflight;
}

}  // namespace sheaf
