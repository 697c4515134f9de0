#pragma once
// ConnectionResets: how often the client of each connection may leave a call before its end. A
// reset costs it a few bytes and us a whole call (25 KB for a moment), so a client that does
// nothing else would fill the memory faster than gRPC empties it. One that spent its budget loses
// the connection.
//
// Budget     kBurst at once, and kPerSecond for ever. Gateways that carry the users of a whole site
//            over one connection stay below.
// Threads    any; `drop` is called without a lock.
// Cost       one lock and a hash of the peer's name a reset.

#include <cstddef>
#include <functional>
#include <string>
#include <unordered_map>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "base/clock.h"

namespace sheaf {

class ConnectionResets {
 public:
  static constexpr double kBurst = 1000;
  static constexpr double kPerSecond = 100;
  static constexpr size_t kMostPeers = 4096;  // that are remembered

  using Drop = std::function<void(const std::string& peer)>;
  explicit ConnectionResets(const Clock& clock) : clock_(clock) {}

  // From then on; an empty one: nothing is dropped.
  void SetDrop(Drop drop) {
    absl::MutexLock lock(&mutex_);
    drop_ = std::move(drop);
  }

  // `peer`: as gRPC names it.
  void OnReset(const std::string& peer);

 private:
  struct Budget {
    double left = kBurst;
    TimePoint at;  // of `left`
  };
  // Those that have all of it again.
  void ForgetOld(TimePoint now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Clock& clock_;
  absl::Mutex mutex_;
  Drop drop_ ABSL_GUARDED_BY(mutex_);
  std::unordered_map<std::string, Budget> peers_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sheaf
