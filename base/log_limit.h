#pragma once
// LogLimit: how often one kind of line may be said. What strangers can cause (connections, refused
// hellos, broken frames) must fill neither a disk nor the room that other lines need.
//
// A period has a burst of lines; the rest of it are counted, and the next line that is said tells
// how many there were.
//
// Threads    any. Cost: a short lock, once for each line wanted.

#include <cstdint>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "base/clock.h"

namespace sheaf {

class LogLimit {
 public:
  struct Options {
    int burst = 5;  // lines in a period
    Duration period = std::chrono::seconds(10);
  };

  LogLimit() : LogLimit(Options{}) {}
  explicit LogLimit(const Options& options) : options_(options) {}

  // nullopt: stay silent. Else what belongs behind the line: empty, or how many were not said.
  std::optional<std::string> Say(TimePoint now);

  // Lines that no limit of this process has let through, since its start.
  static int64_t suppressed_total();

 private:
  const Options options_;
  absl::Mutex mutex_;
  std::optional<TimePoint> period_began_ ABSL_GUARDED_BY(mutex_);
  int said_ ABSL_GUARDED_BY(mutex_) = 0;        // in this period
  int64_t silent_ ABSL_GUARDED_BY(mutex_) = 0;  // since the last line that was said
};

}  // namespace sheaf
