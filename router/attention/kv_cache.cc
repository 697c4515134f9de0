#include "router/attention/kv_cache.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>

#include "absl/strings/str_format.h"

namespace sheaf {

size_t KvCache::BlockBytes(const ModelConfig& config, HeadRange heads, kernels::KvFormat format,
                           int block_size) {
  return size_t{2} * heads.num_kv_heads * config.head_dim * block_size * kernels::KvBytes(format) *
         config.num_layers;
}

absl::StatusOr<std::unique_ptr<KvCache>> KvCache::Create(const ModelConfig& config, HeadRange heads,
                                                         const KvCacheOptions& options) {
  if (options.block_size < 1 || options.block_size > 1024) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "KV cache block size: wanted 1 to 1024 tokens, got %d", options.block_size));
  }
  const size_t block_bytes = BlockBytes(config, heads, options.format, options.block_size);
  const size_t num_blocks =
      std::min<size_t>(options.memory_bytes / block_bytes, std::numeric_limits<int32_t>::max());
  if (num_blocks < 1) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "KV cache memory: wanted at least %d bytes (one block of %d tokens in %d layers), got %d",
        block_bytes, options.block_size, config.num_layers, options.memory_bytes));
  }
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

  kernels::KvPool pool;
  pool.format = options.format;
  pool.block_size = options.block_size;
  pool.num_kv_heads = heads.num_kv_heads;
  pool.head_dim = config.head_dim;
  pool.data = static_cast<uint8_t*>(data);
  return std::unique_ptr<KvCache>(new KvCache(pool, static_cast<int>(num_blocks), bytes));
}

KvCache::KvCache(kernels::KvPool pool, int num_blocks, size_t mapped_bytes)
    : pool_(pool), num_blocks_(num_blocks), mapped_bytes_(mapped_bytes) {}

KvCache::~KvCache() { munmap(pool_.data, mapped_bytes_); }

kernels::KvPool KvCache::layer(int layer) const {
  kernels::KvPool pool = pool_;
  pool.data += size_t(layer) * num_blocks_ * pool_.block_bytes();
  return pool;
}

}  // namespace sheaf
