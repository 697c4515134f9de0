#pragma once
// Doorbell: how other processes wake the one thread that waits for them. A counter in shared memory
// with a futex behind it, so a ring costs a system call only where somebody sleeps.
//
//   waiter   seen = bell.rings(); look for work; none: bell.WaitPast(seen, deadline); again
//   others   publish work, then bell.Ring()
//
// Waking a sleeper may take longer than a small layer computes, so a waiter that expects work at
// once looks for it first (LookPast). It yields its core at every look: where another thread is
// ready to run there, it runs.
//
// No wake-up is lost: a ring between rings() and WaitPast changes the counter that the kernel
// compares before it sleeps. Spurious wake-ups happen; the loop looks again.
//
// Ownership  a view of kDoorbellBytes of shared, zeroed, 64-byte aligned memory.
// Threads    Ring: any, of any process. WaitPast: one thread of one process at a time.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

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
  // True: it was rung since `seen`; false: not within this time, and nobody sleeps.
  bool LookPast(uint32_t seen, Duration time) const;

 private:
  friend class Doorbells;
  struct Words {
    std::atomic<uint32_t> rings;
    std::atomic<uint32_t> somebody_sleeps;
  };
  static_assert(std::atomic<uint32_t>::is_always_lock_free && sizeof(Words) <= kDoorbellBytes);

  // Counts a ring; true: somebody has to be woken for it.
  bool Count();
  uint32_t* futex() const { return reinterpret_cast<uint32_t*>(&words_->rings); }

  Words* words_ = nullptr;
};

// Doorbells that ring together, two sleepers a system call: for a thread whose own core the woken
// ones may take. Rung one by one, the first sleeper may run in its place, and the second is not
// woken before the first is done, idle cores or not.
//
// Threads    one. What was added stays mapped until Ring.
class Doorbells {
 public:
  void Add(Doorbell bell) { bells_.push_back(bell); }
  // All that were added since the last call.
  void Ring();

 private:
  std::vector<Doorbell> bells_;
};

}  // namespace sheaf
