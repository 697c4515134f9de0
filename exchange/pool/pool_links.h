#pragma once
// PoolLinks: a router's links to its workers, what each worker holds, and what each owes. The part
// of LinkPool that is used under its lock; it starts no thread, waits for nothing and makes no
// connection: it says which to make (NextConnect) and is told what became of it (Connected).
//
// A new link counts (table(), OnLinkUp) after its worker's first announcement. Announcements update
// the table and are answered at once: every ask made from the old table has been sent by then,
// because asks are sent as they are planned.
//
// An answer is passed on only if it matches a dispatch that its link owes, in every size; anything
// else ends the link. Next() gives everything in order of arrival of a link.
//
// Ownership  frames that Next() gave lie in the links' memory until Release(), even if the link
//            breaks meanwhile.
// Errors     Reserve, Send: kResourceExhausted: full, the link is good; kUnavailable: there is no
//            link (any more): a kLinkLost event follows.
// Threads    one at a time (LinkPool's lock).

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/ids.h"
#include "exchange/layer/answer_times.h"
#include "exchange/layer/expert_table.h"
#include "exchange/link/doorbell.h"
#include "exchange/link/frame_link.h"
#include "exchange/link/link_handshake.h"
#include "exchange/model_identity.h"
#include "exchange/pool/link_life.h"
#include "exchange/pool/link_observer.h"

namespace sheaf {

struct WorkerEndpoint {
  WorkerId worker;
  InstanceId instance;
  std::vector<std::string> addresses;
  LinkKey key;
  std::string name;  // for the log: "pid 12 on host a"
  friend bool operator==(const WorkerEndpoint&, const WorkerEndpoint&) = default;
};

struct PoolLinksOptions {
  ModelIdentity model;
  InstanceId router;
  bool rows_of_8_bits = false;  // in dispatches, instead of 16
  LinkLifeOptions life;
  AnswerTimesOptions times;
  Duration silence = std::chrono::seconds(2);  // or 20 times what the answer is expected to take
  Duration sleep = std::chrono::milliseconds(500);  // a Turn that comes this late forgives
  uint64_t seed = 1;
};

struct PoolEvent {
  enum class Kind : uint8_t { kAnswer, kLinkLost, kHoldings } kind = Kind::kAnswer;
  WorkerId worker;
  uint64_t ask = 0;         // of an answer
  FrameHeader dispatch;     // that it answers
  ArrivedFrame frame;       // without payload where taken_late
  bool taken_late = false;  // it came while no step looked
  std::string why;          // of a lost link
};

struct WorkerLinkStatus {
  WorkerId worker;
  InstanceId instance;
  std::string name;
  bool live = false;
  std::string path;    // of the link that lives, or lived last
  std::string reason;  // why it is not live, or was not; empty = never
  int64_t failures = 0;      // links broken and connections failed, ever
  int64_t late_answers = 0;  // recognised and dropped, ever
  int owed_answers = 0;
  double seconds_per_unit = 0;  // 0 = not known
};

class PoolLinks {
 public:
  struct ConnectJob {
    WorkerId worker;
    std::vector<std::string> addresses;
    LinkRequest request;
  };

  PoolLinks(const PoolLinksOptions& options, LinkPoolObserver* observer);
  ~PoolLinks();

  void SetWorkers(std::vector<WorkerEndpoint> workers, TimePoint now);
  bool NextConnect(TimePoint now, ConnectJob& job);
  void Connected(WorkerId worker, LinkId link, absl::StatusOr<std::unique_ptr<FrameLink>> result,
                 TimePoint now);

  ExpertTable& table() { return table_; }
  AnswerTimes& times() { return times_; }

  absl::StatusOr<std::span<uint8_t>> Reserve(WorkerId worker, size_t bytes, TimePoint now);
  // Sets link, sequence and model. `expected`: what the answer should take. The worker may sleep
  // until Ring.
  absl::Status Send(WorkerId worker, uint64_t ask, FrameHeader header, Duration expected,
                    TimePoint now);
  // Wakes those to whom something was sent.
  void Ring() { bells_.Ring(); }
  // The next thing that happened. `all`: look also at links that owe nothing.
  bool Next(TimePoint now, bool all, PoolEvent& event);
  void Release();
  void Break(WorkerId worker, const absl::Status& why, TimePoint now);
  void CountLate(WorkerId worker);

  // Silent links end. After Next() found no more, with a `now` from before.
  void Judge(TimePoint now);
  // While no step runs: takes in everything, keeps for the next step what it must hear of.
  void Idle(TimePoint now);
  TimePoint WakeAt() const;

  bool Greeting() const;  // a link waits for its first announcement
  int live() const { return live_; }
  uint64_t changes() const { return changes_; }  // of links and table
  std::vector<WorkerLinkStatus> Status() const;

 private:
  struct Entry;
  Entry* Find(WorkerId worker) const;
  // True: `event` is for the caller.
  bool Take(Entry& entry, const ArrivedFrame& frame, TimePoint now, PoolEvent& event);
  bool TakeAnswer(Entry& entry, const ArrivedFrame& frame, TimePoint now, PoolEvent& event);
  void TakeHoldings(Entry& entry, const ArrivedFrame& frame, TimePoint now);
  void SayHoldingsSeen(Entry& entry, TimePoint now);
  void Lose(Entry& entry, const absl::Status& why, TimePoint now);
  uint64_t Random();

  const PoolLinksOptions options_;
  LinkPoolObserver* const observer_;
  ExpertTable table_;
  AnswerTimes times_;
  std::vector<std::unique_ptr<Entry>> entries_;  // ascending worker
  std::vector<Entry*> by_id_;
  Doorbells bells_;  // of frames sent
  std::vector<std::unique_ptr<FrameLink>> buried_;  // broken, but read until Release
  std::deque<PoolEvent> backlog_;
  bool idle_ = false;
  size_t cursor_ = 0;
  uint64_t random_;
  uint64_t changes_ = 1;
  int live_ = 0;
  TimePoint last_judged_;
};

}  // namespace sheaf
