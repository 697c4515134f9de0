#pragma once
// KvCache: what attention keeps of the positions it has seen, of one attention rank and every
// layer, cut into blocks of `block_size` positions.
//
// The memory is a number of planes, each with the same number of bytes for every block: a plane
// a layer for grouped-query attention (keys and values); one a layer for latent attention (latent
// and rotated key), and one more for each layer that has an indexer (its keys). A block id means
// the same positions in every plane and on every rank, so one block table serves a sequence through
// the whole model. Of keys and values a rank has its heads; of what all heads read it has some of
// each block's positions (latent/kept_slots.h). Of latents it has all positions where no indexer
// bounds how many a token attends to, since they would have to travel again and again, and where
// KvShare says so. Which block belongs to whom is router/schedule/blocks/kv_block_allocator.h; what
// the bytes of a plane mean is the business of the attention that reads it.
//
// Shapes     plane(i): [num_blocks][kept positions * bytes of a position].
// Ownership  one anonymous mapping, asked to be of huge pages; untouched blocks cost no memory.
// Threads    constant after Create; the bytes are written by the step thread.
// Errors     kInvalidArgument: a bad block size, a format that this attention cannot have, or
//            memory for less than one block (says the bytes of a block). kResourceExhausted: the
//            system refuses the mapping.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/attention/kv_format.h"
#include "model/config.h"
#include "model/rank_share.h"

namespace sheaf {

struct KvCacheOptions {
  kernels::KvFormat format = kernels::KvFormat::kBF16;
  int block_size = 16;  // tokens
  size_t memory_bytes =
      0;  // all planes together; the cache is the largest whole number of blocks within it
};

class KvCache {
 public:
  static absl::StatusOr<std::unique_ptr<KvCache>> Create(const ModelConfig& config,
                                                         const KvShare& share,
                                                         const KvCacheOptions& options);
  ~KvCache();
  KvCache(const KvCache&) = delete;
  KvCache& operator=(const KvCache&) = delete;

  // Of one block in each plane.
  static std::vector<size_t> PlaneBlockBytes(const ModelConfig& config, const KvShare& share,
                                             kernels::KvFormat format, int block_size);
  // Of one block in all planes: what `memory_bytes` is divided by.
  static size_t BlockBytes(const ModelConfig& config, const KvShare& share,
                           kernels::KvFormat format, int block_size);

  // How many blocks Create would make, or its kInvalidArgument; nothing is mapped.
  static absl::StatusOr<int> NumBlocks(const ModelConfig& config, const KvShare& share,
                                       const KvCacheOptions& options);

  int num_blocks() const { return num_blocks_; }
  int block_size() const { return options_.block_size; }
  int64_t capacity_tokens() const { return int64_t{num_blocks_} * options_.block_size; }
  size_t memory_bytes() const { return mapped_bytes_; }
  kernels::KvFormat format() const { return options_.format; }
  const KvShare& share() const { return share_; }

  uint8_t* plane(int index) const { return planes_[static_cast<size_t>(index)]; }
  int num_planes() const { return static_cast<int>(planes_.size()); }
  // The bytes of one block in a plane, to be copied as they are.
  std::span<uint8_t> block(int plane, int32_t block) const {
    const size_t bytes = plane_block_bytes_[static_cast<size_t>(plane)];
    return {planes_[static_cast<size_t>(plane)] + static_cast<size_t>(block) * bytes, bytes};
  }

 private:
  KvCache(const KvShare& share, const KvCacheOptions& options, int num_blocks, size_t mapped_bytes,
          std::vector<uint8_t*> planes, std::vector<size_t> plane_block_bytes);

  const KvShare share_;
  const KvCacheOptions options_;
  const int num_blocks_;
  const size_t mapped_bytes_;
  const std::vector<uint8_t*> planes_;  // the first is the mapping
  const std::vector<size_t> plane_block_bytes_;
};

}  // namespace sheaf
