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
  // Returns when it was rung since `seen`, at the deadline, or for no reason.
  void WaitPast(uint32_t seen, TimePoint deadline) { doorbell_.WaitPast(seen, deadline); }
  // Looks for so long, without sleeping, whether it was.
  bool LookPast(uint32_t seen, Duration time) const { return doorbell_.LookPast(seen, time); }
  int fd() const { return memory_.fd(); }

 private:
  Bell() = default;
  MemoryFile memory_;
  Doorbell doorbell_;
};

}  // namespace sheaf
