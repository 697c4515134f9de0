#pragma once
// Doorbell: how other processes wake the one thread that waits for them. A counter in shared memory
// with a futex behind it, so a ring costs a system call only where somebody sleeps.
//
//   waiter   seen = bell.rings(); look for work; none: bell.WaitPast(seen, deadline); again
//   others   publish work, then bell.Ring()
//
// No wake-up is lost: a ring between rings() and WaitPast changes the counter that the kernel
// compares before it sleeps. Spurious wake-ups happen; the loop looks again.
//
// Ownership  a view of kDoorbellBytes of shared, zeroed, 64-byte aligned memory.
// Threads    Ring: any, of any process. WaitPast: one thread of one process at a time.

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/clock.h"

namespace sheaf {

inline constexpr size_t kDoorbellBytes = 64;

class Doorbell {
 public:
  Doorbell() = default;
  explicit Doorbell(uint8_t* memory) : words_(reinterpret_cast<Words*>(memory)) {}

  uint32_t rings() const { return words_->rings.load(std::memory_order_acquire); }
  void Ring();
  void WaitPast(uint32_t seen, TimePoint deadline);

 private:
  struct Words {
    std::atomic<uint32_t> rings;
    std::atomic<uint32_t> somebody_sleeps;
  };
  static_assert(std::atomic<uint32_t>::is_always_lock_free && sizeof(Words) <= kDoorbellBytes);

  Words* words_ = nullptr;
};

}  // namespace sheaf
