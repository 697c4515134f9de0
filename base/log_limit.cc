#include "base/log_limit.h"

#include <atomic>

#include "absl/strings/str_format.h"

namespace sheaf {
namespace {

std::atomic<int64_t>& Suppressed() {
  static std::atomic<int64_t> lines{0};
  return lines;
}

}  // namespace

std::optional<std::string> LogLimit::Say(TimePoint now) {
  absl::MutexLock lock(&mutex_);
  if (!period_began_ || now - *period_began_ >= options_.period) {
    period_began_ = now;
    said_ = 0;
  }
  if (said_ >= options_.burst) {
    ++silent_;
    Suppressed().fetch_add(1, std::memory_order_relaxed);
    return std::nullopt;
  }
  ++said_;
  if (silent_ == 0) return std::string();
  std::string note =
      absl::StrFormat(" (and %d lines like this one that were not written)", silent_);
  silent_ = 0;
  return note;
}

int64_t LogLimit::suppressed_total() { return Suppressed().load(std::memory_order_relaxed); }

}  // namespace sheaf
