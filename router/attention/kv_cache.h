#pragma once
// KvCache: the key/value memory of one attention rank, every layer, cut into blocks of `block_size`
// positions.
//
// A block id means the same positions in every layer, so one block table serves a sequence through
// the whole model. Which block belongs to whom is router/schedule/kv_block_allocator.h; this is
// only the memory.
//
// Shapes     layer(l): [num_blocks][2][heads.num_kv_heads][block_size][head_dim], as
//            kernels/paged_attention.h.
// Ownership  one anonymous mapping, asked to be of huge pages; untouched blocks cost no memory.
// Threads    constant after Create; the bytes are written by the step thread.
// Errors     kInvalidArgument: a bad block size, or memory for less than one block (says the bytes
//            of a block). kResourceExhausted: the system refuses the mapping.

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "kernels/paged_attention.h"
#include "model/config.h"
#include "model/decoder_weights.h"

namespace sheaf {

struct KvCacheOptions {
  kernels::KvFormat format = kernels::KvFormat::kBF16;
  int block_size = 16;  // tokens
  size_t memory_bytes =
      0;  // all layers together; the cache is the largest whole number of blocks within it
};

class KvCache {
 public:
  static absl::StatusOr<std::unique_ptr<KvCache>> Create(const ModelConfig& config, HeadRange heads,
                                                         const KvCacheOptions& options);
  ~KvCache();
  KvCache(const KvCache&) = delete;
  KvCache& operator=(const KvCache&) = delete;

  // Of one block in all layers: what `memory_bytes` is divided by.
  static size_t BlockBytes(const ModelConfig& config, HeadRange heads, kernels::KvFormat format,
                           int block_size);

  int num_blocks() const { return num_blocks_; }
  int block_size() const { return pool_.block_size; }
  int64_t capacity_tokens() const { return int64_t{num_blocks_} * pool_.block_size; }
  size_t memory_bytes() const { return mapped_bytes_; }
  kernels::KvFormat format() const { return pool_.format; }

  kernels::KvPool layer(int layer) const;

 private:
  KvCache(kernels::KvPool pool, int num_blocks, size_t mapped_bytes);

  const kernels::KvPool pool_;  // of layer 0
  const int num_blocks_;
  const size_t mapped_bytes_;
};

}  // namespace sheaf
