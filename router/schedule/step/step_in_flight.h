#pragma once
// StepInFlight: the step that the decoder computes, while it computes: looks every kLookEvery, and
// at once after a cancel or a deadline, whether requests are over (all of them, also those that
// wait), has them ended, and keeps what the decoder still reads of the step's own.
//
//   Begin -> Look, Bury ...  -> Close    IsOver and num_over hold until the next Begin
//
// A sequence of the step that has ended is buried: its client knows and the engine has forgotten
// it, but its tokens and blocks stay until its rows have left the step (OnDropped) or the step is
// closed. Blocks given back by then are not given out before the next step is planned.
//
// Threads    the step thread.
// Ownership  borrows ledger and clock; owns what is buried.

#include <chrono>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/clock.h"
#include "router/attention/step_watch.h"
#include "router/schedule/queue/request_ledger.h"
#include "router/schedule/step/sequence.h"
#include "router/schedule/step/step_runner.h"

namespace sheaf {

class StepInFlight final : public StepWatch {
 public:
  static constexpr std::chrono::milliseconds kLookEvery{50};

  struct Calls {
    // Ends every request that is over now; those of the step come to Bury.
    std::function<void(TimePoint)> end_what_is_over;
    // Gives back the blocks of a buried sequence.
    std::function<void(Sequence&)> release;
  };

  StepInFlight(RequestLedger& ledger, const Clock& clock, Calls calls);

  void Begin(std::span<const SequenceRun> runs, TimePoint now);
  void Close();

  // Whether the decoder may read it.
  bool Has(const Sequence& sequence) const { return IndexOf(sequence) >= 0; }
  void Bury(std::unique_ptr<Sequence> sequence);
  bool all_over() const { return is_open_ && num_over_ == static_cast<int>(sequences_.size()); }

  void Look() override;
  int num_over() const override { return num_over_; }
  bool IsOver(int sequence) const override { return is_over_[static_cast<size_t>(sequence)]; }
  void OnDropped() override;

 private:
  // -1: not of the step, or over.
  int IndexOf(const Sequence& sequence) const;
  // Has the ledger wake the next Look.
  void Watch(TimePoint now);

  RequestLedger& ledger_;
  const Clock& clock_;
  const Calls calls_;

  bool is_open_ = false;
  std::vector<const Sequence*> sequences_;  // of the step; not to be read where over
  std::vector<bool> is_over_;
  int num_over_ = 0;
  std::vector<std::unique_ptr<Sequence>> buried_;  // in the order of their end
  std::vector<SequenceId> ids_;                    // reused
};

}  // namespace sheaf
