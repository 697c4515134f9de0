#pragma once
// LayerMachine: one layer's (token, expert) pairs from routes to answers, over workers that may be
// slow, wrong about what they hold, or gone. Pure: events and time come in, asks go out; the router
// (exchange/pool/pooled_expert_layer) and the simulation drive the very same code.
//
//   Begin(routes)              every needed expert goes to one live holder: longest first, to whom
//                              it ends soonest (seconds a unit x work, what it still owes included)
//   while NextAsk(ask)         encode, send; then Sent or NotSent
//   Combine, NotHeld, Error,   what became of an ask, or of a link; more asks may come of it
//   LinkLost, TableChanged
//   Tick(now) at WakeAt()      late answers are hedged; what nobody holds or answers ends
//   until done() or !given_up().ok(); then End(now)
//
// An expert's pairs travel together, so an expert is the unit of all that follows.
//   late        AnswerTimes::LateAfter is over: its experts also go to another holder; the first
//               answer counts. Without another holder it keeps waiting.
//   owed        an ask that is not needed any more is remembered until its answer comes or its link
//               ends: it counts as load, and with more than max_owed_asks of them a worker is asked
//               only for what nobody else holds.
//   avoided     a worker that was late twice within a second is asked only for what nobody better
//               holds, for avoid_first, and twice as long each time that it is late again soon
//               after
//   no holder   (link lost, not held): the experts wait orphan_patience for the table to change.
//   error       of a worker: another one is asked; when every holder said so, the layer ends.
//   probe       a holder that balancing left out for probe_every is asked for one expert too, so
//               that its times do not grow old and a worker that was slow can come back.
//   verify      that share of experts is asked from two holders; done() waits for the second unless
//               it is late, or verify_patience is over. Both answers are the caller's to compare;
//               AskAnother() for a third.
//
// A Tick that comes much later than WakeAt() means that this process was stopped or starved: what
// it did not read in that time says nothing about the workers, so bounds move by as much.
//
// Bytes of the sum depend on nothing of this: every holder's answer is the same.
//
// Errors     given_up(): kUnavailable: no holder, or no progress (layer, experts, workers, why);
//            kInternal: the texts of all holders. Begin: kInvalidArgument: an expert outside.
// Ownership  borrows table and times, which others change between calls. A plan lives until End.
// Threads    one at a time. Cost: a few microseconds for 8 pairs; memory is reused.

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/clock.h"
#include "base/ids.h"
#include "exchange/layer/answer_times.h"
#include "exchange/layer/dispatch_plan.h"
#include "exchange/layer/expert_table.h"
#include "exchange/layer/layer_statistics.h"

namespace sheaf {

struct LayerMachineOptions {
  Duration orphan_patience = std::chrono::milliseconds(100);
  // Without any progress; more for each token of the layer.
  Duration give_up_after = std::chrono::seconds(5);
  Duration give_up_per_token = std::chrono::milliseconds(20);
  // A link that was full is tried again after this.
  Duration full_pause = std::chrono::milliseconds(1);
  int max_owed_asks = 2;
  Duration probe_every = std::chrono::milliseconds(250);
  Duration avoid_first = std::chrono::milliseconds(500);
  Duration avoid_most = std::chrono::seconds(8);
  double verify_share = 0;
  // A second answer is waited for no longer than this after all that is needed has come, or than
  // half as long as that took.
  Duration verify_patience = std::chrono::milliseconds(25);
  uint64_t seed = 1;  // which experts are verified
};

// Of one router's life; never used again.
using AskId = uint64_t;

struct Ask {
  AskId id = 0;
  WorkerId worker;
  AskCause cause = AskCause::kFirst;
  const WorkerPlan* plan = nullptr;
};

// What a combine means.
struct Arrival {
  // Null: of a layer that is over, or unknown. Drop it.
  const WorkerPlan* plan = nullptr;
  AskCause cause = AskCause::kFirst;
  // [plan->experts]: 1 = its rows are the expert's answer; 0 = it was answered before.
  std::span<const uint8_t> fresh;
  Duration took{0};
};

class LayerMachine {
 public:
  LayerMachine(const ExpertTable& table, AnswerTimes& times, const LayerMachineOptions& options);

  // `routes` stays valid until End. What an earlier layer left under way is owed from here on.
  absl::Status Begin(const Routes& routes, TimePoint now);
  bool NextAsk(Ask& ask);
  void Sent(AskId id, TimePoint now);
  // Its link is full. (A broken one: LinkLost, after the worker left the table.)
  void NotSent(AskId id, TimePoint now);

  // `taken_late`: nobody looked for some time, so that it says nothing about the worker.
  Arrival Combine(WorkerId worker, AskId id, TimePoint now, bool taken_late = false);
  void NotHeld(WorkerId worker, AskId id, std::span<const int32_t> experts, TimePoint now);
  void Error(WorkerId worker, AskId id, const std::string& text, TimePoint now);
  void LinkLost(WorkerId worker, const std::string& why, TimePoint now);
  // The worker announced what it holds.
  void TableChanged(WorkerId worker, TimePoint now);
  void Tick(TimePoint now);
  TimePoint WakeAt() const;

  // One more holder that was not asked for `expert` yet. False: there is none.
  bool AskAnother(ExpertId expert, TimePoint now);

  bool done() const { return remaining_ == 0 && verifying_ == 0; }
  const absl::Status& given_up() const { return given_up_; }
  void End(TimePoint now);

  // Experts of this layer that wait for a holder; ascending.
  std::vector<ExpertId> Orphans() const;
  int owed_asks(WorkerId worker) const;
  LayerStatistics TakeStatistics();

 private:
  // What became of asking one worker for one expert.
  enum class Outcome : uint8_t { kAsked, kNotHeld, kError, kLost };
  struct Tried {
    WorkerId worker;
    Outcome outcome;
  };
  struct Need {
    int32_t expert = 0;
    int32_t pairs = 0;
    bool done = false;
    bool waiting = false;    // nobody could be asked
    int covered = 0;         // asks that may still be in time
    int under_way = 0;       // those and the late ones
    AskCause cause = AskCause::kFirst;  // of its next ask
    TimePoint waiting_since;
    std::vector<Tried> tried;
  };
  struct AskState {
    AskId id = 0;
    WorkerId worker;
    AskCause cause = AskCause::kFirst;
    enum class Progress : uint8_t { kPlanned, kSent, kClosed } progress = Progress::kPlanned;
    bool late = false;
    bool covers = false;   // counts in Need::covered
    bool awaited = false;  // counts in verifying_
    WorkerPlan plan;
    double work = 0;
    double ahead = 0;  // work that the worker owed when it was sent
    TimePoint sent_at;
    TimePoint late_at;
  };
  struct Owed {
    AskId id;
    double work;
    double measured;  // with what was ahead of it
    TimePoint sent_at;
  };
  struct WorkerState {
    uint64_t layer = 0;  // of `load` and `asked`
    double seconds_per_unit = 0;
    double load = 0;  // seconds
    bool asked = false;
    TimePoint last_asked;
    TimePoint full_until;
    TimePoint late_at;  // last time
    TimePoint avoid_until;
    Duration avoid{0};  // how long it was avoided last
    double open_work = 0;  // of this layer's asks
    double owed_work = 0;
    std::vector<Owed> owed;
  };

  WorkerState& StateOf(WorkerId worker);
  AskState* Find(AskId id);
  Need& NeedOf(int32_t expert) { return needs_[size_t(need_of_expert_[size_t(expert)])]; }
  // -1: none. Counts nothing.
  WorkerId Choose(const Need& need, TimePoint now, bool allow_overdue);
  // Any holder that has not been asked and would answer, each as likely: so a copy that is never
  // the best choice is compared too. -1: none.
  WorkerId ChooseToCompare(const Need& need, TimePoint now);
  uint64_t Random();
  void Choice(Need& need, WorkerId worker);
  // Plans what Choice() collected.
  void PlanChosen(TimePoint now);
  void PlanFirst(TimePoint now);
  void PlanExtra(AskCause cause, TimePoint now);
  void Close(AskState& ask, bool used);
  void Uncover(AskState& ask);
  void WasLate(WorkerState& state, TimePoint now) const;
  bool TakeOwed(WorkerId worker, AskId id, TimePoint now, bool observe);
  void Settle(TimePoint now);
  void Observe(const AskState& ask, Duration took, TimePoint now);
  // All is there but second answers: when the ask is late now.
  TimePoint VerifyUntil(TimePoint now) const;
  void Forgive(Duration by);
  Duration Bound() const;
  void GiveUp(absl::Status status);
  void Trouble(std::string text);
  std::string Names(bool waiting_only) const;

  const ExpertTable& table_;
  AnswerTimes& times_;
  const LayerMachineOptions options_;
  LayerStatistics statistics_;

  // The layer.
  Routes routes_;
  uint64_t layer_number_ = 0;
  std::vector<Need> needs_;  // only the first num_needs_ count
  size_t num_needs_ = 0;
  int remaining_ = 0;  // needs not done
  int verifying_ = 0;  // second answers that are still waited for
  bool dirty_ = false;
  bool waits_for_room_ = false;
  absl::Status given_up_;
  TimePoint begun_at_;
  TimePoint progress_at_;
  std::vector<std::string> troubles_;  // why things went wrong, the last few

  std::vector<std::unique_ptr<AskState>> asks_;  // only the first num_asks_ count
  size_t num_asks_ = 0;
  size_t next_ask_ = 0;  // to hand out
  AskId first_id_ = 1;   // of asks_[0]

  std::vector<WorkerState> workers_;  // by id
  uint64_t random_;

  // Scratch.
  std::vector<int32_t> need_of_expert_;    // -1 outside of the layer's needs
  std::vector<WorkerId> chosen_;           // by expert, -1 = none
  std::vector<int32_t> chosen_experts_;    // whose entry in chosen_ is set
  std::vector<int32_t> order_;
  std::vector<uint8_t> fresh_;
  DispatchPlan plan_;
};

}  // namespace sheaf
