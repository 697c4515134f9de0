#include "router/attention/kv_cache.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <numeric>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/numa_interleave.h"
#include "base/status.h"
#include "router/attention/grouped_query/grouped_query_attention.h"
#include "router/attention/latent/latent_attention.h"

namespace sheaf {
namespace {

absl::Status CheckFormat(const ModelConfig& config, kernels::KvFormat format) {
  if (!std::holds_alternative<LatentShape>(config.attention) ||
      format != kernels::KvFormat::kFp8E5M2) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrFormat(
      "KV cache of %s: wanted float32, bfloat16 or fp8 (e4m3 with scales), got fp8_e5m2",
      config.model_type));
}

}  // namespace

std::vector<size_t> KvCache::PlaneBlockBytes(const ModelConfig& config, const KvShare& share,
                                             kernels::KvFormat format, int block_size) {
  if (const auto* const latent = std::get_if<LatentShape>(&config.attention)) {
    return LatentAttention::PlaneBlockBytes(*latent, config.num_layers, format, share, block_size);
  }
  return GroupedQueryAttention::PlaneBlockBytes(std::get<GroupedQueryShape>(config.attention),
                                                config.num_layers, share.heads, format, block_size);
}

size_t KvCache::BlockBytes(const ModelConfig& config, const KvShare& share,
                           kernels::KvFormat format, int block_size) {
  const std::vector<size_t> planes = PlaneBlockBytes(config, share, format, block_size);
  return std::accumulate(planes.begin(), planes.end(), size_t{0});
}

absl::StatusOr<int> KvCache::NumBlocks(const ModelConfig& config, const KvShare& share,
                                       const KvCacheOptions& options) {
  if (options.block_size < 1 || options.block_size > 1024) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "KV cache block size: wanted 1 to 1024 tokens, got %d", options.block_size));
  }
  SHEAF_RETURN_IF_ERROR(CheckFormat(config, options.format));
  const auto* const latent = std::get_if<LatentShape>(&config.attention);
  if (latent != nullptr && latent->indexer.topk > 0 && options.block_size < share.num_ranks) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "KV cache of %d ranks, each of which keeps some positions of every block: wanted a block "
        "size of at least %d tokens, got %d",
        share.num_ranks, share.num_ranks, options.block_size));
  }
  const size_t block_bytes = BlockBytes(config, share, options.format, options.block_size);
  const size_t num_blocks =
      std::min<size_t>(options.memory_bytes / block_bytes, std::numeric_limits<int32_t>::max());
  if (num_blocks < 1) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "KV cache memory: wanted at least %d bytes (one block of %d tokens in %d layers), got %d",
        block_bytes, options.block_size, config.num_layers, options.memory_bytes));
  }
  return static_cast<int>(num_blocks);
}

absl::StatusOr<std::unique_ptr<KvCache>> KvCache::Create(const ModelConfig& config,
                                                         const KvShare& share,
                                                         const KvCacheOptions& options) {
  SHEAF_ASSIGN_OR_RETURN(const int blocks, NumBlocks(config, share, options));
  const auto num_blocks = static_cast<size_t>(blocks);
  const size_t block_bytes = BlockBytes(config, share, options.format, options.block_size);
  const size_t bytes = num_blocks * block_bytes;
  // No reservation: the blocks that no sequence reached yet cost nothing.
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("KV cache: cannot map %d bytes: %s", bytes, std::strerror(errno)));
  }
  // Attention walks the blocks of many sequences: fewer TLB misses. A kernel without huge pages may
  // refuse.
  (void)madvise(data, bytes, MADV_HUGEPAGE);
  InterleaveOverOwnNodes(data, bytes);

  std::vector<uint8_t*> planes;
  std::vector<size_t> plane_block_bytes;
  auto* next = static_cast<uint8_t*>(data);
  for (const size_t plane_bytes :
       PlaneBlockBytes(config, share, options.format, options.block_size)) {
    planes.push_back(next);
    plane_block_bytes.push_back(plane_bytes);
    next += num_blocks * plane_bytes;
  }
  return std::unique_ptr<KvCache>(
      new KvCache(share, options, blocks, bytes, std::move(planes), std::move(plane_block_bytes)));
}

KvCache::KvCache(const KvShare& share, const KvCacheOptions& options, int num_blocks,
                 size_t mapped_bytes, std::vector<uint8_t*> planes,
                 std::vector<size_t> plane_block_bytes)
    : share_(share),
      options_(options),
      num_blocks_(num_blocks),
      mapped_bytes_(mapped_bytes),
      planes_(std::move(planes)),
      plane_block_bytes_(std::move(plane_block_bytes)) {}

KvCache::~KvCache() { munmap(planes_.front(), mapped_bytes_); }

}  // namespace sheaf
