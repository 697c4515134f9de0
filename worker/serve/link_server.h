#pragma once
// LinkServer: a worker's compute thread with its links to routers. Round robin: one dispatch of one
// router, then one of the next, so that no router waits behind another's backlog for more than one
// dispatch. Receiving, computing (over its pool) and answering have no hop between threads. While
// there is nothing to do it waits as exchange/link/exchange_wait.h says.
// While a device computes one link's dispatch, the next link's is read (ExpertRunner::depth()); of
// each link one is under way, and all are answered before links come or go.
//
// Holdings   a new link is first told what is announced; each change goes to all links. Once every
//            live link has seen an announcement, on_seen says so; a link that is new or gone has
//            nothing to see.
// A link that is broken, that carries nonsense, or that is full (its router does not read) is
// closed. Those of others go on. A new link of a router replaces the one that it had. Announcements
// alone may come faster than a router reads: what is left out when there is no room is in the next
// one, and the link is closed when there was none for full_patience.
//
// Threads    AddLink, Announce: any, and they do not block. on_seen and the observer are called
//            from the compute thread with no lock held.
// Ownership  owns the links; borrows experts, bell and observer.

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "base/clock.h"
#include "base/log_limit.h"
#include "base/thread_pool.h"
#include "exchange/link/bell.h"
#include "exchange/link/exchange_wait.h"
#include "exchange/link/frame_link.h"
#include "exchange/link/hello.h"
#include "exchange/model_identity.h"
#include "exchange/wire/holdings.h"
#include "exchange/expert_compute.h"
#include "worker/serve/expert_runner.h"

namespace sheaf {

// One answered dispatch.
struct ServedDispatch {
  enum class Outcome { kCombine, kNotHeld, kError };
  Outcome outcome = Outcome::kCombine;
  InstanceId router;
  int64_t tokens = 0;
  int64_t pairs = 0;
  int64_t received_bytes = 0;
  int64_t sent_bytes = 0;
  Duration busy{0};
};

class ServeObserver {
 public:
  virtual ~ServeObserver() = default;
  virtual void OnServed(const ServedDispatch& /*served*/) {}
  virtual void OnLinks(int /*live_links*/) {}
  // The compute thread has been round all its links; also when there was nothing to do, each
  // second.
  virtual void OnRound() {}
  // kUnavailable: the router went, or made a new link; else as FrameLink says.
  virtual void OnLinkEnded(const absl::Status& /*why*/) {}
};

class LinkServer {
 public:
  using OnSeen = std::function<void(uint64_t number)>;

  // `holdings` is what is announced from the beginning. `wait`: for dispatches.
  LinkServer(const ModelIdentity& model, int num_threads, const HeldExperts& experts,
             Holdings holdings, Bell& bell, OnSeen on_seen, ServeObserver* observer,
             ExchangeWait wait = {}, Duration full_patience = std::chrono::seconds(2));
  ~LinkServer();  // ends the thread; closes all links

  void AddLink(std::unique_ptr<FrameLink> link, const Hello& hello) ABSL_LOCKS_EXCLUDED(mutex_);
  void Announce(const Holdings& holdings) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Client {
    std::unique_ptr<FrameLink> link;
    InstanceId router;
    uint64_t told = 0;  // number of the last announcement on this link
    uint64_t seen = 0;  // nothing that this one took away is asked for
    std::optional<TimePoint> full_since;  // no room for an announcement
    bool broken = false;
    bool asked = false;  // a dispatch of it is under way
  };
  // A dispatch that is begun and not answered.
  struct Asked {
    Client* client = nullptr;
    FrameHeader dispatch;
    TimePoint start;
  };

  void Run() ABSL_LOCKS_EXCLUDED(mutex_);
  // False: the server ends.
  bool TakeNews() ABSL_LOCKS_EXCLUDED(mutex_);
  void Adopt(Client client);
  void Tell(Client& client);
  // True: a dispatch was begun.
  bool ServeOne(Client& client);
  void Begin(Client& client, const ArrivedFrame& dispatch);
  void AnswerOldest();
  void AnswerAll();
  absl::Status Answer(const Asked& asked);
  absl::Status MarkSeen(Client& client, uint64_t number);
  void Break(Client& client, const absl::Status& why);
  void ForgetBroken();
  void TellSeen();

  const ModelIdentity model_;
  const HeldExperts& experts_;
  Bell& bell_;
  const OnSeen on_seen_;
  ServeObserver* const observer_;
  const ExchangeWait wait_;
  const Duration full_patience_;
  const int num_threads_;

  absl::Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<Client> arrived_ ABSL_GUARDED_BY(mutex_);
  Holdings announced_ ABSL_GUARDED_BY(mutex_);

  // The compute thread's.
  std::unique_ptr<ThreadPool> pool_;
  std::unique_ptr<ExpertRunner> runner_;
  LogLimit forged_frames_;
  std::vector<Client> clients_;
  std::deque<Asked> asked_;  // as runner_ has them; they point into clients_
  TimePoint answered_at_;    // the last one
  size_t next_client_ = 0;
  uint64_t number_ = 0;  // of encoded_
  std::string encoded_;
  uint64_t told_seen_ = 0;
  std::thread thread_;
};

}  // namespace sheaf
