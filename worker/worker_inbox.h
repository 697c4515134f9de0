#pragma once
// WorkerInbox: what the threads of a worker leave for its control thread. Only what the coordinator
// says is a queue, and bounded; of everything else the last word counts, so that nothing is lost
// because something is full.
//
// Threads    Post*: any, never block for long. Wait: the control thread.

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/ids.h"
#include "exchange/wire/holdings.h"
#include "sheaf/v1/pool.pb.h"
#include "worker/holdings/holding_loader.h"

namespace sheaf {

struct WorkerNews {
  struct Message {
    uint64_t session = 0;
    v1::ToWorker message;
    TimePoint received;
  };
  struct SessionEnd {
    uint64_t session = 0;
    absl::Status status;
    TimePoint at;
  };
  struct HoldFailure {
    uint64_t hold_number = 0;
    LayerExpert pair;
    absl::Status why;
  };
  std::vector<Message> messages;
  uint64_t flooded_session = 0;  // 0 = none: it said more than there is room for
  std::vector<SessionEnd> session_ends;
  std::vector<HoldFailure> hold_failures;
  std::optional<Holdings> holdings;
  std::optional<HoldingFacts> facts;
  std::optional<int> links;
  std::optional<absl::Status> engine_lost;  // why; nothing else counts any more
  int stops = 0;
};

class WorkerInbox {
 public:
  static constexpr size_t kMaxMessages = 1024;
  // what a full inbox drops, the next Hold finds again
  static constexpr size_t kMaxFailures = 4096;

  void PostMessage(uint64_t session, v1::ToWorker message, TimePoint received) {
    absl::MutexLock lock(&mutex_);
    if (news_.messages.size() < kMaxMessages) {
      news_.messages.push_back({session, std::move(message), received});
    } else {
      news_.flooded_session = session;
    }
    has_news_ = true;
  }
  void PostSessionEnd(uint64_t session, absl::Status status, TimePoint at) {
    absl::MutexLock lock(&mutex_);
    news_.session_ends.push_back({session, std::move(status), at});
    has_news_ = true;
  }
  void PostHoldFailure(uint64_t hold_number, const LayerExpert& pair, const absl::Status& why) {
    absl::MutexLock lock(&mutex_);
    if (news_.hold_failures.size() < kMaxFailures)
      news_.hold_failures.push_back({hold_number, pair, why});
    has_news_ = true;
  }
  void PostHoldings(const Holdings& holdings) {
    absl::MutexLock lock(&mutex_);
    news_.holdings = holdings;
    has_news_ = true;
  }
  void PostFacts(const HoldingFacts& facts) {
    absl::MutexLock lock(&mutex_);
    news_.facts = facts;
    has_news_ = true;
  }
  void PostLinks(int links) {
    absl::MutexLock lock(&mutex_);
    news_.links = links;
    has_news_ = true;
  }
  void PostEngineLost(const absl::Status& why) {
    absl::MutexLock lock(&mutex_);
    news_.engine_lost = why;
    has_news_ = true;
  }
  void PostStop() {
    absl::MutexLock lock(&mutex_);
    ++news_.stops;
    has_news_ = true;
  }

  // Everything that is there, at the latest at `deadline`.
  WorkerNews Wait(TimePoint deadline) {
    absl::MutexLock lock(&mutex_);
    if (deadline == TimePoint::max()) {
      mutex_.Await(absl::Condition(&has_news_));
    } else {
      const Duration left = deadline - std::chrono::steady_clock::now();
      mutex_.AwaitWithTimeout(absl::Condition(&has_news_),
                              absl::FromChrono(std::max(left, Duration::zero())));
    }
    has_news_ = false;
    return std::exchange(news_, {});
  }

 private:
  absl::Mutex mutex_;
  WorkerNews news_ ABSL_GUARDED_BY(mutex_);
  bool has_news_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace sheaf
