#include "exchange/link/doorbell.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>

namespace sheaf {
namespace {

// libstdc++'s steady_clock is CLOCK_MONOTONIC, which is what FUTEX_WAIT_BITSET's deadline means.
timespec AbsoluteTime(TimePoint deadline) {
  const auto since_start =
      std::chrono::duration_cast<std::chrono::nanoseconds>(deadline.time_since_epoch());
  return {static_cast<time_t>(since_start.count() / 1'000'000'000),
          static_cast<long>(since_start.count() % 1'000'000'000)};
}

}  // namespace

void Doorbell::Ring() {
  // Sequentially consistent, as is the waiter's pair: either the kernel's compare sees the new
  // count, or this sees the sleeper.
  words_->rings.fetch_add(1, std::memory_order_seq_cst);
  if (words_->somebody_sleeps.load(std::memory_order_seq_cst) == 0) return;
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&words_->rings), FUTEX_WAKE, 1, nullptr, nullptr,
          0);
}

void Doorbell::WaitPast(uint32_t seen, TimePoint deadline) {
  words_->somebody_sleeps.store(1, std::memory_order_seq_cst);
  if (words_->rings.load(std::memory_order_seq_cst) == seen) {
    const timespec until = AbsoluteTime(deadline);
    // Every error (woken, count changed, signal, time is up) means the same: look again.
    syscall(SYS_futex, reinterpret_cast<uint32_t*>(&words_->rings), FUTEX_WAIT_BITSET, seen, &until,
            nullptr, FUTEX_BITSET_MATCH_ANY);
  }
  words_->somebody_sleeps.store(0, std::memory_order_relaxed);
}

}  // namespace sheaf
