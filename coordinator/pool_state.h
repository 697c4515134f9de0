#pragma once
// PoolState: a pool's coordinator as a state machine. Sessions, messages and time come in; actions
// (messages, ends of sessions, lines for the log) come out. The coordinator's thread drives it, and
// so does the simulation.
//
//   gathering   until `expected_workers` have joined, or `join_patience` after the first: nothing
//               is planned. A coordinator that starts over a running pool learns it in this time.
//   then        every join, loss, drain, .. plans again with few moves, and each tick tells workers
//               what to hold next (coordinator/moves.h).
//
// Lost       a worker whose session ended, whose lease ended in time that the coordinator was awake
//            for (coordinator/awake_time.h), or that broke the protocol. Its share is left to its
//            replacement for `adopt_after`; a spare takes it at once. When a router says that a
//            step waits, others take at once all that has no holder, first what that step needs.
// Leaving    others take what only it holds; then it is dismissed, or `leave_bound` after it spoke
//            when nobody can.
//
// Threads    one at a time. Time: now() of the caller, never earlier than before.
// Errors     a session that breaks the protocol is ended with kInvalidArgument naming the field.

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/ids.h"
#include "coordinator/awake_time.h"
#include "coordinator/expert_load.h"
#include "coordinator/pool_member.h"
#include "coordinator/pool_planner.h"
#include "coordinator/quarantine.h"
#include "exchange/model_identity.h"
#include "sheaf/v1/pool.pb.h"

namespace sheaf {

struct PoolStateOptions {
  ModelIdentity model;
  std::string token;         // empty = none is wanted
  int expected_workers = 0;  // 0 = not known
  double replicas = 1;       // [1, 64]
  Duration lease = std::chrono::seconds(2);
  Duration longest_tick = std::chrono::milliseconds(200);  // AwakeTime
  Duration hello_timeout = std::chrono::seconds(10);
  Duration join_patience = std::chrono::seconds(10);
  Duration adopt_after = std::chrono::seconds(2);
  Duration leave_bound = std::chrono::seconds(1);
  Duration refused_retry = std::chrono::seconds(5);  // of an expert that could not be loaded
  Duration load_half_life = std::chrono::minutes(5);
  PlannerOptions planner;
  QuarantineOptions quarantine;
};

enum class LossCause { kLease, kSessionEnded, kProtocol, kLeft };
const char* NameOf(LossCause cause);

struct LostWorker {
  WorkerId worker;
  InstanceId instance;
  int64_t pid = 0;
  std::string host;
  std::string reason;
  LossCause cause = LossCause::kSessionEnded;
  TimePoint at;
};

// A worker cannot load it.
struct RefusedExpert {
  WorkerId worker;
  LayerExpert expert;
  std::string reason;
  bool permanent = false;  // trying again cannot help
};

struct SendToWorker {
  SessionId session;
  v1::ToWorker message;
};
struct SendToRouter {
  SessionId session;
  v1::ToRouter message;
};
struct EndSession {
  SessionId session;
  absl::Status status;
};
struct LogNote {
  bool warning = false;
  std::string text;
  bool of_stranger = false;  // who may cause it as often as he likes
};
using PoolAction =
    std::variant<SendToWorker, SendToRouter, EndSession, LogNote, LostWorker, RefusedExpert>;

// All that happened since the start.
struct PoolCounters {
  std::map<LossCause, int64_t> lost;
  int64_t false_evictions = 0;  // lost by lease, and then the same process came back
  int64_t quarantines = 0;
  int64_t wrong_answers = 0;
  int64_t plans = 0;
  int64_t moves = 0;  // experts that plans had somebody load
  uint64_t moved_bytes = 0;
  int64_t refused_hellos = 0;
  int64_t refused_experts = 0;
};

// Figures of now.
struct PoolFigures {
  std::map<v1::WorkerStatus::State, int> workers;
  std::vector<int64_t> coverage{0, 0, 0, 0};  // experts with 0, 1, 2, and 3 or more holders
  int routers = 0;
  uint64_t moving_bytes = 0;
  double wanted_holders = 1;          // of each expert, as the operator asked
  std::map<int, int> fewest_holders;  // by decoder layer: of its expert that has the fewest
};

class PoolState {
 public:
  explicit PoolState(PoolStateOptions options);

  // Sessions. Ids come from the caller and are never used again.
  void WorkerOpened(SessionId session, TimePoint now);
  void RouterOpened(SessionId session, TimePoint now);
  // `received`: when the transport had it, not later than now.
  void OnWorkerMessage(SessionId session, const v1::FromWorker& message, TimePoint received,
                       TimePoint now);
  void OnRouterMessage(SessionId session, const v1::FromRouter& message, TimePoint now);
  void Closed(SessionId session, TimePoint now);

  // `unread`: messages have arrived that were not given to it yet.
  void Tick(TimePoint now, bool unread);

  // Operators. kNotFound, kInvalidArgument.
  absl::Status Drain(WorkerId worker, TimePoint now);
  absl::Status Undrain(WorkerId worker, TimePoint now);
  absl::Status SetReplicas(double replicas, TimePoint now);
  int64_t Rebalance(TimePoint now);  // moves that it takes
  void NoteRefusedOperator(const absl::Status& why);

  std::vector<PoolAction> TakeActions() { return std::exchange(actions_, {}); }
  v1::PoolStatus Status(TimePoint now) const;
  PoolFigures Figures() const;
  const PoolCounters& counters() const { return counters_; }
  const Roster& roster() const { return roster_; }
  bool gathering() const { return gathering_; }

 private:
  struct Stranger {
    bool router = false;
    Duration since{0};  // awake time
  };

  // pool_state.cc: sessions and workers.
  void JoinWorker(SessionId session, const v1::FromWorker& message, TimePoint received,
                  TimePoint now);
  absl::StatusOr<WorkerId> ChooseId(const WorkerFacts& facts) const;
  absl::Status Understand(Member& member, const v1::FromWorker& message, TimePoint now);
  absl::Status OnHoldFailed(Member& member, const v1::HoldFailed& failed, TimePoint now);
  void OnLeaving(Member& member, const std::string& reason, TimePoint now);
  // Others are to hold what only this one that leaves does.
  void TakeOverFrom(Member& leaving);
  void Lose(WorkerId worker, LossCause cause, const std::string& reason, TimePoint now);
  Member* MemberOf(SessionId session);
  void Refuse(SessionId session, const char* who, const absl::Status& status);

  // pool_reports.cc: what routers say.
  void JoinRouter(SessionId session, const v1::FromRouter& message);
  absl::Status OnReport(SessionId session, RouterMember& router, const v1::RouterReport& report,
                        TimePoint now);
  void OnLinkReport(SessionId session, const v1::LinkReport& report, TimePoint now);
  void OnOrphans(SessionId session, RouterMember& router, TimePoint now);
  void OnWrongAnswer(const v1::WrongAnswer& wrong, TimePoint now);
  void TakeOut(Member& member, const std::string& reason, bool wrong, TimePoint now);
  bool MayTakeOut(const Member& member) const;
  std::vector<size_t> WaitedFor(TimePoint now) const;

  // pool_ticks.cc: what time brings.
  void ExpireLeases(TimePoint now);
  void ExpireStrangers();
  void EndGathering(TimePoint now);
  void ReleaseAndRetry(TimePoint now);
  void AdoptLostShares(TimePoint now);
  void DismissLeaving(TimePoint now);
  void SendHolds(TimePoint now);
  void SendViews(TimePoint now);
  void NoteProgress();
  void PlanSoon(std::string why, TimePoint now);
  int64_t PlanNow(bool exact, TimePoint now);

  // pool_status.cc
  v1::WorkerStatus::State StateOf(const Member& member) const;
  std::string Text() const;
  std::vector<int64_t> Coverage() const;
  uint64_t MovingBytes() const;

  template <typename Action>
  void Do(Action action) {
    actions_.emplace_back(std::in_place_type<Action>, std::move(action));
  }
  void Note(std::string text) { Do(LogNote{false, std::move(text)}); }
  void Warn(std::string text) { Do(LogNote{true, std::move(text)}); }

  const PoolStateOptions options_;
  const ExpertGrid grid_;
  const PoolPlanner planner_;
  double replicas_;
  std::vector<PoolAction> actions_;

  std::map<SessionId, Stranger> strangers_;  // said no hello yet
  Roster roster_;
  std::map<SessionId, WorkerId> session_of_;
  std::map<SessionId, RouterMember> routers_;
  std::map<WorkerId, LostShare> lost_shares_;
  std::deque<LostWorker> lost_;  // the last ones
  // Ids of those that were here, for when they come back; the newest last.
  std::deque<std::pair<InstanceId, WorkerId>> ids_;

  AwakeTime awake_;
  ExpertLoad load_;
  bool gathering_ = true;
  bool was_complete_ = false;  // once, since the start
  bool complete_ = false;
  bool moving_ = false;
  TimePoint first_join_;
  bool plan_soon_ = false;
  TimePoint plan_at_;
  std::string plan_why_;
  int64_t unplaced_ = 0;

  bool view_changed_ = false;
  uint64_t view_number_ = 0;
  std::string view_text_;
  TimePoint text_sent_;
  std::vector<WorkerId> joined_;  // since the last tick, for one line of the log

  PoolCounters counters_;
};

}  // namespace sheaf
