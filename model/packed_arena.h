#pragma once
// PackedArena: memory for repacked weights, one large anonymous mapping that is filled front to
// back.
//
// A slice is some ten thousand matrices: one mapping with huge pages in place of that many heap
// blocks wastes nothing and costs fewer page faults. Address space is reserved for an upper bound;
// only what is written becomes resident. Fresh memory is zero, which is what padding rows and
// inputs must be.
//
// Ownership  allocations live as long as the arena.
// Threads    Allocate from any thread.
// Errors     kResourceExhausted when the address space cannot be reserved.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"

namespace sheaf {

class PackedArena {
 public:
  static constexpr size_t kAlignment = 64;

  static absl::StatusOr<std::shared_ptr<PackedArena>> Reserve(size_t bytes);
  // For one of many arenas, of which the first `filled` bytes will surely be written: huge pages
  // for those alone, so that the last one wastes nothing.
  static absl::StatusOr<std::shared_ptr<PackedArena>> ReserveFilled(size_t bytes, size_t filled);
  ~PackedArena();
  PackedArena(const PackedArena&) = delete;
  PackedArena& operator=(const PackedArena&) = delete;

  // Zeroed, kAlignment-aligned. The sum of all rounded sizes must stay within the reservation.
  void* Allocate(size_t bytes);

  size_t used_bytes() const { return used_.load(std::memory_order_relaxed); }

  static constexpr size_t Rounded(size_t bytes) {
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
  }

 private:
  PackedArena(uint8_t* data, size_t capacity) : data_(data), capacity_(capacity) {}

  uint8_t* data_;
  size_t capacity_;
  std::atomic<size_t> used_{0};
};

}  // namespace sheaf
