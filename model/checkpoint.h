#pragma once
// Checkpoint: a directory of safetensors shards seen as one map from tensor name to bytes.
//
// Open() reads and validates headers only (lengths, JSON, dtypes, shapes, offsets, overlaps, index
// against shards); tensor bytes are mapped lazily and shared with the page cache. Formats:
// docs/weight_formats.md.
//
// Ownership  keeps the mappings; views live as long as the Checkpoint.
// Threads    const methods from any thread.
// Errors     kNotFound: missing directory, shard or tensor. kInvalidArgument / kDataLoss: malformed
//            or truncated file. Messages name file, tensor, wanted, got.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "model/safetensors.h"

namespace sheaf {

class Checkpoint {
 public:
  static absl::StatusOr<std::unique_ptr<Checkpoint>> Open(const std::string& directory);
  ~Checkpoint();

  const std::string& directory() const;
  size_t num_shards() const;

  // Null when absent. The TensorInfo names dtype, shape, shard and byte range.
  const TensorInfo* Find(std::string_view name) const;
  std::vector<const TensorInfo*> tensors() const;                 // in name order
  std::span<const TensorInfo> shard_tensors(size_t shard) const;  // in header order: no sorting

  // The tensor's bytes, mapped read-only. Alignment is that of the file: of the element size at
  // best.
  std::span<const uint8_t> Bytes(const TensorInfo& tensor) const;

  // Advises the kernel: read the range soon (before load), or drop our mapping of it (after
  // repacking).
  void WillNeed(const TensorInfo& tensor) const;
  void DropMapping(const TensorInfo& tensor) const;

 private:
  Checkpoint();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sheaf
