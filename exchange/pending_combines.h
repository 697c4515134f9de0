#pragma once
// PendingCombines: the answers that a router end still waits for, and the rule of which arriving
// frame is one of them. Shared by every transport. A frame that matches nothing (an old epoch, an
// old step, a duplicate, a stranger) is dropped and counted, never delivered.
//
// Threads: the link's. Ownership: borrows the combine buffers.

#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "exchange/transport.h"

namespace sheaf {

class PendingCombines {
 public:
  explicit PendingCombines(Epoch epoch) : epoch_(epoch) {}

  struct Entry {
    WorkerId worker;
    ExchangeKey key;
    std::span<uint8_t> combine;
    bool landing = false;  // matched; its bytes are on their way into `combine`
    bool done = false;
  };

  // kInvalidArgument: another epoch, or a buffer that is not the answer's size.
  absl::Status Add(const Exchange& exchange);

  // The entry that this combine (or error) answers, marked as landing; null = drop it.
  Entry* Match(const FrameHeader& header);
  void Complete(Entry& entry);

  bool empty() const { return open_ == 0; }
  // After Wait: forget what is done.
  void Clear();

  std::vector<WorkerId> Missing() const;  // ascending, unique
  // kDeadlineExceeded naming the silent workers and layer, as a fault.
  LinkFault Silent(Duration waited) const;
  uint64_t dropped_frames() const { return dropped_frames_; }

 private:
  const Epoch epoch_;
  std::deque<Entry> entries_;  // entries stay where they are while bytes land
  size_t open_ = 0;
  uint64_t dropped_frames_ = 0;
};

// "worker 1" or "workers 1, 3".
std::string NameWorkers(std::span<const WorkerId> workers);

}  // namespace sheaf
