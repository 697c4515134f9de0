#pragma once
// Checkpoint: a directory of safetensors shards seen as one map from tensor name to bytes.
//
// Open() reads and validates headers only (lengths, JSON, dtypes, shapes, offsets, overlaps, index
// against shards); which files those are, model/files/weight_files.h says. What the index names and
// the directory lacks is recorded, and model/absent_tensors.h judges it: only a config tells
// whether the model needs it. Tensor bytes are copied by Read() into memory that the caller owns;
// no file is mapped. Whoever has loaded what it needs asks CheckUnchanged() once, after which it
// needs neither the Checkpoint nor its files. Formats: docs/weight_formats.md.
//
// Ownership  keeps every shard open; destroying it closes them. TensorInfos live as long.
// Threads    const methods from any thread.
// Errors     kNotFound: missing directory, shard or tensor. kInvalidArgument: malformed. kDataLoss:
//            truncated, or changed since Open. Messages name file, tensor, wanted, got.

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

class ShardFile;

// Named by the index and not there.
struct AbsentTensor {
  std::string name;
  std::string shard;  // file name in the index
  bool shard_exists = false;
};

class Checkpoint {
 public:
  static absl::StatusOr<std::unique_ptr<Checkpoint>> Open(const std::string& directory);
  ~Checkpoint();

  const std::string& directory() const;
  const std::string& index_path() const;  // empty: none was read
  size_t num_shards() const;
  const ShardFile& shard(size_t number) const;
  std::span<const AbsentTensor> absent_tensors() const;  // in the order of the index
  // What an operator should know of the directory though it is served: one sentence each.
  const std::vector<std::string>& remarks() const;

  // Null when absent. The TensorInfo names dtype, shape, shard and byte range.
  const TensorInfo* Find(std::string_view name) const;
  std::vector<const TensorInfo*> tensors() const;                 // in name order
  std::span<const TensorInfo> shard_tensors(size_t shard) const;  // in header order: no sorting

  // Copies the tensor's bytes [first_byte, first_byte + out.size()), which must lie within it.
  absl::Status Read(const TensorInfo& tensor, uint64_t first_byte, std::span<uint8_t> out) const;
  // All of a small one.
  absl::StatusOr<std::vector<uint8_t>> ReadAll(const TensorInfo& tensor) const;

  // Every shard is still the file that was opened: what was read belongs together.
  absl::Status CheckUnchanged() const;

  // Asks the kernel to read those bytes soon, before they are loaded.
  void WillNeed(const TensorInfo& tensor, uint64_t first_byte, uint64_t bytes) const;

 private:
  Checkpoint();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sheaf
