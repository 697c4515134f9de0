#pragma once
// WorkerState: a worker's membership in its pool. Pure: events and time in, actions out; the
// stream, the links and the weights are the business of Worker.
//
//   apart --kConnect--> joining --welcome--> member --end, silence--> apart, after a back-off
//
// Without a coordinator the worker goes on serving its links, and joins again with what it holds.
//
// Silence    a coordinator that says nothing for max(5 leases, silence_floor) is given up; its
//            answers to beats are stamped when they are received. A tick that comes late says that
//            this process stood still: so much is forgiven.
// Stop       tell Leaving and go on as a member until the coordinator wants nothing any more,
//            dismisses or is gone, at most leave_patience; then hold nothing, answer what still
//            arrives until that has been seen on every link, leave. A second Stop ends at once.
// Final      FAILED_PRECONDITION, UNAUTHENTICATED, INVALID_ARGUMENT: joining again cannot help.
//
// Threads    one at a time.

#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/clock.h"
#include "base/ids.h"
#include "worker/holdings/holding_plan.h"

namespace sheaf {

struct WorkerStateOptions {
  std::string coordinator;  // for messages
  int preferred_id = -1;    // of the first join; later the one it had
  Duration first_back_off = std::chrono::milliseconds(100);
  Duration max_back_off = std::chrono::seconds(2);
  Duration join_timeout = std::chrono::seconds(10);
  Duration silence_floor = std::chrono::seconds(15);
  Duration join_patience = std::chrono::minutes(10);  // without coordinator and without links
  Duration leave_patience = std::chrono::seconds(10);
  Duration linger = std::chrono::milliseconds(50);  // for the last answers to leave this process
};

struct WorkerAction {
  enum class Kind {
    kConnect,      // a session, and the hello on it
    kDisconnect,   // end the session; nothing of it is listened to any more
    kSendBeat,     // `sequence`
    kSendLeaving,
    kHold,         // `hold`
    kReload,       // `pair`
    kExit,         // Run returns `status`
  };
  Kind kind = Kind::kConnect;
  uint64_t sequence = 0;
  HoldRequest hold;
  LayerExpert pair;
  absl::Status status;
};

class WorkerState {
 public:
  WorkerState(const WorkerStateOptions& options, uint64_t seed, TimePoint now);

  // Events. `now` is when the message was received.
  void OnWelcome(WorkerId id, Duration lease, TimePoint now);
  void OnHold(HoldRequest hold, TimePoint now);
  void OnReload(const LayerExpert& pair, TimePoint now);
  void OnBeatSeen(TimePoint now);
  void OnDismissed(const std::string& reason, TimePoint now);
  // What the coordinator said cannot be: the session ends, and it is tried again.
  void OnNonsense(const absl::Status& why, TimePoint now);
  void OnSessionEnded(const absl::Status& status, TimePoint now);
  void OnLinks(int live_links);
  // The loader has nothing to do; whether it holds nothing either.
  void OnHoldingsSettled(bool empty);
  void OnHoldingsUnsettled() { settled_ = empty_ = false; }
  void OnStop(TimePoint now);

  // After every event that is there has been given: what has become due. To be called at
  // next_tick() at the latest.
  std::vector<WorkerAction> Tick(TimePoint now);
  TimePoint next_tick() const { return next_tick_; }

  bool member() const { return phase_ == Phase::kMember; }
  int preferred_id() const { return preferred_id_; }
  std::optional<WorkerId> id() const { return id_; }
  Duration lease() const { return lease_; }

 private:
  enum class Phase { kApart, kJoining, kMember, kDone };
  void Push(WorkerAction::Kind kind);
  void Exit(absl::Status status);
  void Disconnect();
  // It is apart from now on.
  void Part(const std::string& why, TimePoint now);
  void HoldNothing();
  void ForgiveStandstill(TimePoint now);
  void TickPhase(TimePoint now);
  void TickStop(TimePoint now);
  Duration Silence() const;
  void Plan(TimePoint now);

  const WorkerStateOptions options_;
  std::minstd_rand random_;
  Phase phase_ = Phase::kApart;
  std::vector<WorkerAction> actions_;

  int preferred_id_;
  std::optional<WorkerId> id_;
  Duration lease_{0};
  Duration back_off_;
  TimePoint connect_at_;      // kApart
  TimePoint join_deadline_;   // kJoining
  TimePoint last_heard_;      // kMember
  TimePoint next_beat_;       // kMember
  uint64_t beat_ = 0;
  uint64_t hold_number_ = 0;  // of this session
  TimePoint alone_since_;     // without session and without links
  std::string why_apart_;
  int links_ = 0;
  bool settled_ = true;
  bool empty_ = true;

  bool stopping_ = false;
  bool told_leaving_ = false;
  bool letting_go_ = false;  // nothing is to be held
  TimePoint leave_deadline_;
  std::optional<TimePoint> exit_at_;

  TimePoint next_tick_;
  TimePoint last_tick_;
};

}  // namespace sheaf
