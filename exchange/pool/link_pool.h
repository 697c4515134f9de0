#pragma once
// LinkPool: a router's links to all workers of the pool. Threads of its own connect, say hello,
// reconnect with back-off, and while no step runs take what workers announce; a link that is
// broken, slow or refused concerns that worker alone. What a live link's worker holds is in
// PoolLinks::table().
//
// During a step the step thread has the links to itself: it Locks the pool from the first dispatch
// to the last answer of a layer, sends, receives, and lets go. The pool's threads touch a link only
// with the same lock; a link that comes up meanwhile is taken in by Session::Turn.
//
//   SetWorkers   from the coordinator: who should be linked. A worker that is not listed any more
//                keeps its link while that lives: a coordinator that forgot somebody takes nothing
//                away.
//
// Threads    SetWorkers, Ready, snapshot: any. A Session: the thread that locked.
// Ownership  owns links and bell; borrows clock and observer.
// Errors     Ready: kUnavailable naming layer and expert nobody holds, and what is wrong with whom.
// Waits      connecting: connect_timeout each, kConnectThreads at a time; back-off first_back_off
//            .. max_back_off, with jitter. The destructor waits for attempts under way.

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "base/bounded_queue.h"
#include "base/clock.h"
#include "base/ids.h"
#include "exchange/link/bell.h"
#include "exchange/link/link_maker.h"
#include "exchange/model_identity.h"
#include "exchange/pool/link_observer.h"
#include "exchange/pool/pool_links.h"

namespace sheaf {

struct LinkPoolOptions {
  ModelIdentity model;
  InstanceId router;
  bool rows_of_8_bits = false;  // in dispatches, instead of 16
  AnswerTimesOptions times;
  Duration connect_timeout = std::chrono::seconds(2);
  Duration first_back_off = std::chrono::milliseconds(20);
  Duration max_back_off = std::chrono::seconds(2);
  // An answer that is outstanding for this long ends the link: the worker hangs, or the path is
  // gone without a word. More for a dispatch that takes long (AnswerTimes::Expected times 20).
  Duration silence = std::chrono::seconds(2);
  uint64_t seed = 0;  // of link numbers and jitter; 0 = from the system
};

struct LinkPoolSnapshot {
  std::vector<WorkerLinkStatus> workers;  // ascending
  ExpertTable::Coverage coverage{};
  int live_links = 0;
  bool complete = false;
  std::vector<LayerExpert> orphans;  // the first few that nobody holds
  // What each linked worker holds; never null. A new one with every change of `holdings_version`.
  std::shared_ptr<const ExpertTable::Announced> holdings;
  uint64_t holdings_version = 0;
};

class LinkPool {
 public:
  static absl::StatusOr<std::unique_ptr<LinkPool>> Create(const LinkPoolOptions& options,
                                                          std::unique_ptr<LinkConnector> connector,
                                                          const Clock& clock,
                                                          LinkPoolObserver* observer);
  ~LinkPool();
  LinkPool(const LinkPool&) = delete;

  // The whole list; replaces the one before.
  void SetWorkers(std::vector<WorkerEndpoint> workers);
  absl::Status Ready() const;
  LinkPoolSnapshot snapshot() const;
  const ModelIdentity& model() const { return options_.model; }
  const Clock& clock() const { return clock_; }

  // For as long as it lives, its thread alone has the links.
  class Session {
   public:
    explicit Session(LinkPool& pool);
    ~Session();
    Session(const Session&) = delete;

    PoolLinks& links() { return pool_.links_; }
    Bell& bell() { return *pool_.bell_; }
    // Takes in new links and lists of workers, ends silent links. Call it now and then while
    // waiting, after the links have been read.
    void Turn(TimePoint now) { pool_.Turn(now, false); }

   private:
    LinkPool& pool_;
  };

 private:
  struct ConnectResult {
    WorkerId worker;
    LinkId link;
    absl::StatusOr<std::unique_ptr<FrameLink>> result;
  };

  LinkPool(const LinkPoolOptions& options, std::unique_ptr<LinkConnector> connector,
           const Clock& clock, LinkPoolObserver* observer, std::unique_ptr<Bell> bell);
  void LinksLoop();
  void ConnectLoop();
  void Turn(TimePoint now, bool idle);  // with links_mutex_
  void TakeInbox(TimePoint now);
  void Publish(TimePoint now, bool always);

  const LinkPoolOptions options_;
  const std::unique_ptr<LinkConnector> connector_;
  const Clock& clock_;
  LinkPoolObserver* const observer_;
  const std::unique_ptr<Bell> bell_;

  // Whoever uses the links. Taken in a Session's constructor, so not annotated further.
  absl::Mutex links_mutex_;
  PoolLinks links_;
  uint64_t published_changes_ = 0;
  TimePoint published_at_;
  ExpertTable::Coverage told_coverage_{};
  int told_live_ = -1;
  std::shared_ptr<const ExpertTable::Announced> announced_;  // of the version
  uint64_t announced_version_ = 0;

  // What others left for whoever has the links next.
  absl::Mutex inbox_mutex_ ABSL_ACQUIRED_AFTER(links_mutex_);
  std::optional<std::vector<WorkerEndpoint>> new_workers_ ABSL_GUARDED_BY(inbox_mutex_);
  std::vector<ConnectResult> connected_ ABSL_GUARDED_BY(inbox_mutex_);
  bool inbox_rung_ ABSL_GUARDED_BY(inbox_mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(inbox_mutex_) = false;
  std::atomic<bool> inbox_full_{false};

  BoundedQueue<PoolLinks::ConnectJob> jobs_;

  mutable absl::Mutex view_mutex_ ABSL_ACQUIRED_AFTER(links_mutex_);
  LinkPoolSnapshot view_ ABSL_GUARDED_BY(view_mutex_);

  std::vector<std::thread> threads_;
};

}  // namespace sheaf
