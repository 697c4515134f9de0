#pragma once
// Membership: who has which slot, and how far the next epoch is. A state machine without I/O; the
// controller feeds it events and does what Next() says.
//
//   slot    vacant --Join--> loading --SliceReady--> ready;  any --Lose--> vacant
//   epoch   waiting --all ready--> preparing --all prepared--> opening
//           opening --all opened, link connected--> open;  any --Lose, CloseEpoch--> waiting
//
// Epoch numbers grow strictly and are never reused. A member whose lease ends, or that leaves an
// epoch waiting for longer than the phase timeout, shows up in Expired().
//
// Threads    one. Time comes from the clock passed in. Errors: kInvalidArgument: the event does not
//            fit the state.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/ids.h"

namespace sheaf {

struct MemberInfo {
  std::string instance;
  int64_t pid = 0;
  std::string host;
  std::string metrics_address;
};

enum class SlotState { kVacant, kLoading, kReady };

struct Slot {
  SlotState state = SlotState::kVacant;
  MemberInfo member;  // empty when vacant
  uint64_t loaded_bytes = 0;
  uint64_t slice_bytes = 0;
  TimePoint lease_end;
  std::string last_loss;  // why it was last vacated
  std::string address;    // data plane, of the epoch being opened
  bool prepared = false;  // in this epoch
  bool opened = false;
};

enum class EpochPhase { kWaiting, kPreparing, kOpening, kOpen };

// What the controller has to do now.
enum class NextStep { kNothing, kPrepare, kOpen, kConnect };

struct ExpiredMember {
  WorkerId worker;
  std::string reason;
};

class Membership {
 public:
  Membership(int num_slots, Duration lease, Duration phase_timeout, const Clock& clock);

  // The preferred slot if vacant (-1 = any), else the lowest vacant one. kResourceExhausted: none;
  // kAlreadyExists: this instance has one.
  absl::StatusOr<WorkerId> Join(const MemberInfo& member, int preferred_slot);
  void Renew(WorkerId worker);
  void Progress(WorkerId worker, uint64_t loaded_bytes, uint64_t slice_bytes);
  absl::Status SliceReady(WorkerId worker, uint64_t slice_bytes);
  // Of another epoch than the current one: ignored, it is late.
  absl::Status Prepared(WorkerId worker, Epoch epoch, std::string address);
  absl::Status Opened(WorkerId worker, Epoch epoch);
  void Lose(WorkerId worker, const std::string& reason);
  std::vector<ExpiredMember> Expired() const;

  // Each step is told once: kPrepare has raised the epoch when it returns.
  NextStep Next();
  void Connected();   // after kConnect: the epoch is open
  void CloseEpoch();  // the data plane broke: the next epoch is needed

  Epoch epoch() const { return epoch_; }
  EpochPhase phase() const { return phase_; }
  const std::vector<Slot>& slots() const { return slots_; }
  // One line: "serving", or what is missing.
  std::string Describe() const;

 private:
  Slot& At(WorkerId worker) { return slots_[static_cast<size_t>(worker.value())]; }
  void Enter(EpochPhase phase);

  const Duration lease_;
  const Duration phase_timeout_;
  const Clock& clock_;
  std::vector<Slot> slots_;
  Epoch epoch_{0};
  EpochPhase phase_ = EpochPhase::kWaiting;
  TimePoint phase_start_;
  bool told_connect_ = false;
};

}  // namespace sheaf
