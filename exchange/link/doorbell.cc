#include "exchange/link/doorbell.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>

namespace sheaf {
namespace {

constexpr int32_t kFarAway = 1000;  // rings, between reading a count and the kernel's look at it

// libstdc++'s steady_clock is CLOCK_MONOTONIC, which is what FUTEX_WAIT_BITSET's deadline means.
timespec AbsoluteTime(TimePoint deadline) {
  const auto since_start =
      std::chrono::duration_cast<std::chrono::nanoseconds>(deadline.time_since_epoch());
  return {static_cast<time_t>(since_start.count() / 1'000'000'000),
          static_cast<long>(since_start.count() % 1'000'000'000)};
}

}  // namespace

bool Doorbell::Count() {
  // Sequentially consistent, as is the waiter's pair: either the kernel's compare sees the new
  // count, or this sees the sleeper.
  words_->rings.fetch_add(1, std::memory_order_seq_cst);
  return words_->somebody_sleeps.load(std::memory_order_seq_cst) != 0;
}

void Doorbell::Ring() {
  if (Count()) syscall(SYS_futex, futex(), FUTEX_WAKE, 1, nullptr, nullptr, 0);
}

void Doorbells::Ring() {
  std::erase_if(bells_, [](Doorbell& bell) { return !bell.Count(); });
  size_t bell = 0;
  for (; bell + 1 < bells_.size(); bell += 2) {
    // FUTEX_WAKE_OP wakes at the first word, and at the second where the comparison with its count
    // holds. The count is added 0 and may be any number: compared is whether it differs from one
    // that it is far from.
    uint32_t* const second = bells_[bell + 1].futex();
    const auto count = static_cast<int32_t>(std::atomic_ref<uint32_t>(*second).load());
    const uint32_t other = count >= -kFarAway && count <= kFarAway ? 0x7ff : 0;
    const uint32_t operation = FUTEX_OP(FUTEX_OP_ADD, 0, FUTEX_OP_CMP_NE, other);
    if (syscall(SYS_futex, bells_[bell].futex(), FUTEX_WAKE_OP, 1, /*at the second*/ 1, second,
                operation) >= 0)
      continue;
    // A kernel that has no such call.
    for (uint32_t* const futex : {bells_[bell].futex(), second})
      syscall(SYS_futex, futex, FUTEX_WAKE, 1, nullptr, nullptr, 0);
  }
  if (bell < bells_.size())
    syscall(SYS_futex, bells_[bell].futex(), FUTEX_WAKE, 1, nullptr, nullptr, 0);
  bells_.clear();
}

bool Doorbell::LookPast(uint32_t seen, Duration time) const {
  TimePoint now = std::chrono::steady_clock::now();
  const TimePoint end = now + time;
  while (rings() == seen) {
    if (now >= end) return false;
    sched_yield();
    now = std::chrono::steady_clock::now();
  }
  return true;
}

void Doorbell::WaitPast(uint32_t seen, TimePoint deadline) {
  words_->somebody_sleeps.store(1, std::memory_order_seq_cst);
  if (words_->rings.load(std::memory_order_seq_cst) == seen) {
    const timespec until = AbsoluteTime(deadline);
    // Every error (woken, count changed, signal, time is up) means the same: look again.
    syscall(SYS_futex, futex(), FUTEX_WAIT_BITSET, seen, &until, nullptr, FUTEX_BITSET_MATCH_ANY);
  }
  words_->somebody_sleeps.store(0, std::memory_order_relaxed);
}

}  // namespace sheaf
