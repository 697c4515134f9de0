#pragma once
// Records of a paged pool that will be read next, asked for little by little while a kernel
// computes: scattered records defeat the processor's own prefetcher, and all at once would wait for
// memory.
//
// Ownership  addresses only. Threads: pure.

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace sheaf::kernels::internal {

class RecordsAhead {
 public:
  static constexpr size_t kMost = 64;

  explicit RecordsAhead(size_t record_bytes) : record_bytes_(record_bytes) {}

  // `record` may be any address: nothing is read.
  void Add(const uint8_t* record) { records_[count_++] = record; }

  // Part `part` of `parts` roughly equal ones. Trap: as a function of its own it would be removed,
  // g++ 12 takes one that only prefetches for one without effect.
  [[gnu::always_inline]] void Fetch(size_t part, size_t parts) const {
    const size_t end = count_ * (part + 1) / parts;
    for (size_t i = count_ * part / parts; i < end; ++i) {
      for (size_t at = 0; at < record_bytes_; at += 64) __builtin_prefetch(records_[i] + at, 0, 2);
      __builtin_prefetch(records_[i] + record_bytes_ - 1, 0, 2);
    }
  }

 private:
  size_t record_bytes_;
  size_t count_ = 0;
  const uint8_t* records_[kMost];
};

}  // namespace sheaf::kernels::internal
