#pragma once
// Admission: the bounded queue in front of the running set. What can never run is refused at once,
// what would wait too long is refused with a hint, what waited past its deadline is handed back.
//
// Order      fair_order.h, which knows those that run too: by id, until Ended.
// Deadlines  a newcomer is refused when what is measured says that its deadline surely passes first
//            (wait_estimate.h); its own prompt does not count then, since the cache may have it.
// Threads    none of its own: the ledger's lock guards it (request_ledger.h).
// Errors     CheckFits, CheckRoom: kInvalidArgument (never fits; says wanted and got),
//            kResourceExhausted (queue full). CheckDeadline: kDeadlineExceeded (estimate,
//            deadline).
// Cost       fair_order.h; TakeIf O(queue).

#include <functional>
#include <memory>
#include <set>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "base/clock.h"
#include "router/schedule/plan/scheduler.h"
#include "router/schedule/queue/fair_order.h"
#include "router/schedule/queue/wait_estimate.h"
#include "router/schedule/step/sequence.h"

namespace sheaf {

class Admission {
 public:
  struct Limits {
    int max_queued = 1024;
    int64_t max_queued_tokens = int64_t{1} << 24;
    int max_model_len = 0;     // prompt + output
    int64_t cache_tokens = 0;  // of the whole KV cache
    int vocab_size = 0;
  };

  explicit Admission(const Limits& limits) : limits_(limits) {}

  // Whether a request could ever run.
  static absl::Status CheckFits(const GenerationRequest& request, const Limits& limits);
  // Whether `count` more with so many tokens may wait now.
  absl::Status CheckRoom(int64_t count, int64_t tokens) const;
  // Whether a group could end in time.
  absl::Status CheckDeadline(std::span<const std::unique_ptr<Sequence>> group, TimePoint now) const;

  void Push(std::unique_ptr<Sequence> sequence, uint64_t group, TimePoint now);
  void Return(std::unique_ptr<Sequence> sequence, FairOrder::ComesBack how, TimePoint now);
  // At most `count`, in order.
  std::vector<Sequence*> Peek(int count, TimePoint now);
  // Those become running.
  std::vector<std::unique_ptr<Sequence>> Take(std::span<const SequenceId> ids, TimePoint now);
  // Null: it does not wait.
  std::unique_ptr<Sequence> Remove(SequenceId id);
  std::vector<std::unique_ptr<Sequence>> TakeExpired(TimePoint now);
  // Of these, those whose deadline surely passes before they end, were they taken now.
  std::vector<std::unique_ptr<Sequence>> TakeHopeless(std::span<const QueuedSequence> front,
                                                      TimePoint now);
  // In order of arrival.
  std::vector<std::unique_ptr<Sequence>> TakeIf(
      const std::function<bool(const Sequence&)>& condition);
  void Ended(SequenceId id) { order_.Forget(id); }

  bool Waits(SequenceId id) const { return waiting_.contains(id); }
  bool empty() const { return waiting_.empty(); }
  int size() const { return static_cast<int>(waiting_.size()); }
  int64_t tokens() const { return order_.waiting().tokens; }
  const Limits& limits() const { return limits_; }
  TimePoint earliest_deadline() const {
    return deadlines_.empty() ? TimePoint::max() : deadlines_.begin()->first;
  }
  FairOrder& order() { return order_; }
  const FairOrder& order() const { return order_; }
  WaitEstimate& estimate() { return estimate_; }

  // When a refused client should come again: about when half the queue has moved on, 0.1 to 60
  // seconds; 1 second while nothing is measured.
  Duration RetryAfter(TimePoint now) const;

 private:
  void Insert(std::unique_ptr<Sequence> sequence);
  std::unique_ptr<Sequence> Extract(SequenceId id);

  const Limits limits_;
  std::unordered_map<SequenceId, std::unique_ptr<Sequence>> waiting_;
  std::set<std::pair<TimePoint, SequenceId>> deadlines_;  // of those that wait
  FairOrder order_;
  WaitEstimate estimate_;
};

}  // namespace sheaf
