#pragma once
// SlotMemory: a number of slots of equal size, in anonymous memory or in a file; the bytes of the
// second tier (block_store.h).
//
// A slot is written and read in pieces that together are its bytes, in order.
//
// File       made in a directory, for this process alone: mode 0600, without a name from the start
//            (a crash leaves nothing), all of its room reserved before the first write. It is read
//            and written by calls instead of being mapped: a bad sector or a full disk is then an
//            error of that call, where a mapping would end the process. The page cache keeps what
//            is used all the same.
// Threads    one.
// Errors     making one: kResourceExhausted, kInvalidArgument, naming the directory. Write and
//            Read: kUnavailable with the system's words.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sheaf {

class SlotMemory {
 public:
  virtual ~SlotMemory() = default;
  virtual absl::Status Write(int64_t slot, std::span<const std::span<uint8_t>> pieces) = 0;
  virtual absl::Status Read(int64_t slot, std::span<const std::span<uint8_t>> pieces) = 0;
};

// Pages that were never written take no memory.
absl::StatusOr<std::unique_ptr<SlotMemory>> MakeAnonymousSlots(int64_t slots, size_t slot_bytes);
absl::StatusOr<std::unique_ptr<SlotMemory>> MakeFileSlots(const std::string& directory,
                                                          int64_t slots, size_t slot_bytes);

}  // namespace sheaf
