#include "router/schedule/blocks/block_store.h"

#include <utility>

#include "absl/strings/str_format.h"
#include "base/check.h"
#include "base/status.h"
#include "router/schedule/blocks/block_checksum.h"

namespace sheaf {
namespace {

uint64_t Checksum(const BlockHash& name, std::span<const std::span<uint8_t>> pieces) {
  BlockChecksum checksum(name.words[0] ^ name.words[1]);
  for (const std::span<uint8_t> piece : pieces) checksum.Add(piece);
  return checksum.sum();
}

}  // namespace

absl::StatusOr<std::unique_ptr<BlockStore>> BlockStore::Create(const Options& options) {
  const auto slots = static_cast<int64_t>(options.bytes / options.block_bytes);
  if (slots < 1) {
    return absl::InvalidArgumentError(
        absl::StrFormat("KV offload: wanted at least %d bytes (one block), got %d",
                        options.block_bytes, options.bytes));
  }
  SHEAF_ASSIGN_OR_RETURN(std::unique_ptr<SlotMemory> memory,
                         options.directory.empty()
                             ? MakeAnonymousSlots(slots, options.block_bytes)
                             : MakeFileSlots(options.directory, slots, options.block_bytes));
  return std::make_unique<BlockStore>(std::move(memory), slots);
}

BlockStore::BlockStore(std::unique_ptr<SlotMemory> memory, int64_t slots)
    : memory_(std::move(memory)), capacity_(slots) {}

void BlockStore::Put(const BlockHash& name, std::span<const std::span<uint8_t>> pieces) {
  SHEAF_CHECK(!Has(name), "a block is put once");
  if (free_.empty() && next_fresh_ == capacity_) Drop(used_.begin());
  int64_t number = next_fresh_;
  if (free_.empty()) {
    ++next_fresh_;
  } else {
    number = free_.back();
    free_.pop_back();
  }
  if (absl::Status written = memory_->Write(number, pieces); !written.ok()) {
    free_.push_back(number);
    Fail(std::move(written));
    return;
  }
  names_[name] = used_.insert(used_.end(), {name, number, Checksum(name, pieces)});
}

bool BlockStore::Get(const BlockHash& name, std::span<const std::span<uint8_t>> pieces) {
  const auto found = names_.find(name);
  if (found == names_.end()) return false;
  const Slots::iterator slot = found->second;
  absl::Status read = memory_->Read(slot->number, pieces);
  if (read.ok() && Checksum(name, pieces) != slot->checksum) {
    read = absl::DataLossError("KV offload: a block is not what was written");
  }
  if (!read.ok()) {
    Drop(slot);
    Fail(std::move(read));
    return false;
  }
  used_.splice(used_.end(), used_, slot);
  return true;
}

void BlockStore::Clear() {
  while (!used_.empty()) Drop(used_.begin());
}

absl::Status BlockStore::TakeRemark() { return std::exchange(remark_, absl::OkStatus()); }

void BlockStore::Fail(absl::Status why) {
  ++num_failed_;
  remark_ = std::move(why);
}

void BlockStore::Drop(Slots::iterator slot) {
  free_.push_back(slot->number);
  names_.erase(slot->name);
  used_.erase(slot);
}

}  // namespace sheaf
