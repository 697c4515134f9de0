#pragma once
// BlockStore: the second tier of the prefix cache: blocks that were evicted from the KV cache,
// found by the same names, until the room for them is needed.
//
// Full       the block used longest ago goes.
// Wrong      a block whose bytes are not those that were put, or that cannot be read, is a miss,
//            and its name is gone. A block that cannot be written is not there. TakeRemark says
//            why.
//
// Threads    the step thread.
// Errors     Create: kInvalidArgument (room for less than one block), SlotMemory's.
// Cost       a copy of the block and a pass for its checksum; names O(1).

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "router/schedule/blocks/block_hash.h"
#include "router/schedule/blocks/slot_memory.h"

namespace sheaf {

class BlockStore {
 public:
  struct Options {
    uint64_t bytes = 0;       // at most this many
    std::string directory{};  // of the file; empty: memory
    size_t block_bytes = 0;
  };
  static absl::StatusOr<std::unique_ptr<BlockStore>> Create(const Options& options);
  BlockStore(std::unique_ptr<SlotMemory> memory, int64_t slots);

  int64_t capacity() const { return capacity_; }
  int64_t size() const { return static_cast<int64_t>(names_.size()); }
  bool Has(const BlockHash& name) const { return names_.contains(name); }

  // The pieces of a block are `block_bytes` together. Put: of a name that is not there.
  void Put(const BlockHash& name, std::span<const std::span<uint8_t>> pieces);
  // False: a miss; the pieces are undefined.
  [[nodiscard]] bool Get(const BlockHash& name, std::span<const std::span<uint8_t>> pieces);
  void Clear();

  // Blocks that were there and could not be had, and writes that failed, ever.
  int64_t num_failed() const { return num_failed_; }
  // The last failure's; OK: there was none since the last call.
  absl::Status TakeRemark();

 private:
  struct Slot {
    BlockHash name;
    int64_t number = 0;
    uint64_t checksum = 0;
  };
  using Slots = std::list<Slot>;

  void Fail(absl::Status why);
  void Drop(Slots::iterator slot);

  const std::unique_ptr<SlotMemory> memory_;
  const int64_t capacity_;
  int64_t next_fresh_ = 0;     // numbers from here on were never used
  std::vector<int64_t> free_;  // numbers
  Slots used_;                 // the one used longest ago first
  std::unordered_map<BlockHash, Slots::iterator, BlockHashBits> names_;
  int64_t num_failed_ = 0;
  absl::Status remark_;
};

}  // namespace sheaf
