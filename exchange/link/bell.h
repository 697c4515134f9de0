#pragma once
// Bell: what the one thread that serves a process's links sleeps on, and what everybody rings who
// has something for it: peers through shared memory, threads of the same process directly.
//
// Ownership  owns its memory file; peers get fd(). Threads: Ring any; WaitPast one at a time.
// Errors     Create: kResourceExhausted.

#include <memory>

#include "absl/status/statusor.h"
#include "exchange/link/doorbell.h"
#include "exchange/link/memory_file.h"

namespace sheaf {

class Bell {
 public:
  static absl::StatusOr<std::unique_ptr<Bell>> Create();

  uint32_t rings() const { return doorbell_.rings(); }
  void Ring() { doorbell_.Ring(); }
  // Looks, without sleeping, whether it was rung since `seen`: for so long where rings came that
  // soon lately, else once.
  bool LookPast(uint32_t seen, Duration time);
  // Returns when it was rung since `seen`, at the deadline, or for no reason.
  void WaitPast(uint32_t seen, TimePoint deadline);
  int fd() const { return memory_.fd(); }

 private:
  Bell() = default;
  void Waited(bool briefly);

  MemoryFile memory_;
  Doorbell doorbell_;
  // Of the thread that waits: whether looking pays. A wait that is longer than one looks is slept
  // through.
  static constexpr int kMostBriefWaits = 3, kLooksFrom = 2;
  int brief_waits_ = kLooksFrom;  // one more for each, one less for each long one
  TimePoint looked_from_{};       // of a wait under way
  Duration looked_{0};
};

}  // namespace sheaf
