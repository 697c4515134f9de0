#pragma once
// Admission: the bounded queue in front of the running set. What can never run is refused at once,
// what would wait too long is refused with a hint, what waited past its deadline is handed back.
//
// Order      first in, first out, but for one that the plan defers; a preempted sequence returns to
//            the head.
// Threads    none of its own: the ledger's lock guards it (request_ledger.h).
// Errors     CheckFits, CheckRoom: kInvalidArgument (never fits; says wanted and got),
//            kResourceExhausted (queue full).
// Cost       O(1), Take O(its place), TakeIf O(queue).

#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "base/clock.h"
#include "router/schedule/step/sequence.h"

namespace sheaf {

class Admission {
 public:
  struct Limits {
    int max_queued = 256;
    int max_model_len = 0;     // prompt + output
    int64_t cache_tokens = 0;  // of the whole KV cache
    int vocab_size = 0;
  };

  explicit Admission(const Limits& limits) : limits_(limits) {}

  // Whether a request could ever run.
  static absl::Status CheckFits(const GenerationRequest& request, const Limits& limits);
  // Whether `count` more may wait now.
  absl::Status CheckRoom(int count) const;

  void Push(std::unique_ptr<Sequence> sequence) { queue_.push_back(std::move(sequence)); }
  void Return(std::unique_ptr<Sequence> preempted) { queue_.push_front(std::move(preempted)); }

  // One that waits.
  std::unique_ptr<Sequence> Take(SequenceId id, TimePoint now);
  // Removes those that `condition` holds for, in order.
  std::vector<std::unique_ptr<Sequence>> TakeIf(
      const std::function<bool(const Sequence&)>& condition);

  bool empty() const { return queue_.empty(); }
  int size() const { return static_cast<int>(queue_.size()); }
  Sequence& at(int i) const { return *queue_[i]; }
  const Limits& limits() const { return limits_; }

  // When a refused client should come again: about when half the queue has moved on, 1 to 60
  // seconds.
  Duration RetryAfter() const;

 private:
  const Limits limits_;
  std::deque<std::unique_ptr<Sequence>> queue_;
  TimePoint last_take_{};
  Duration take_interval_ =
      std::chrono::seconds(1);  // a running mean of the time between two takes
};

}  // namespace sheaf
