#include "router/cluster/membership.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace sheaf {

Membership::Membership(int num_slots, Duration lease, Duration phase_timeout, const Clock& clock)
    : lease_(lease),
      phase_timeout_(phase_timeout),
      clock_(clock),
      slots_(static_cast<size_t>(num_slots)) {}

absl::StatusOr<WorkerId> Membership::Join(const MemberInfo& member, int preferred_slot) {
  int vacant = -1;
  for (int i = static_cast<int>(slots_.size()) - 1; i >= 0; --i) {
    const Slot& slot = slots_[static_cast<size_t>(i)];
    if (slot.state == SlotState::kVacant) {
      if (vacant != preferred_slot || vacant < 0) vacant = i;
    } else if (slot.member.instance == member.instance) {
      return absl::AlreadyExistsError(
          absl::StrFormat("instance %s is worker %d already", member.instance, i));
    }
  }
  if (vacant < 0) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("all %d worker slots are taken", slots_.size()));
  }
  Slot& slot = slots_[static_cast<size_t>(vacant)];
  Slot fresh;
  fresh.state = SlotState::kLoading;
  fresh.member = member;
  fresh.last_loss = slot.last_loss;
  slot = std::move(fresh);
  slot.lease_end = clock_.Now() + lease_;
  return WorkerId(vacant);
}

void Membership::Renew(WorkerId worker) { At(worker).lease_end = clock_.Now() + lease_; }

void Membership::Progress(WorkerId worker, uint64_t loaded_bytes, uint64_t slice_bytes) {
  At(worker).loaded_bytes = loaded_bytes;
  At(worker).slice_bytes = slice_bytes;
}

absl::Status Membership::SliceReady(WorkerId worker, uint64_t slice_bytes) {
  Slot& slot = At(worker);
  if (slot.state != SlotState::kLoading) return absl::InvalidArgumentError("slice_ready twice");
  slot.state = SlotState::kReady;
  slot.loaded_bytes = slot.slice_bytes = slice_bytes;
  return absl::OkStatus();
}

absl::Status Membership::Prepared(WorkerId worker, Epoch epoch, std::string address) {
  if (epoch > epoch_)
    return absl::InvalidArgumentError(
        absl::StrCat("prepared epoch ", epoch.value(), " of the future"));
  if (epoch < epoch_ || phase_ != EpochPhase::kPreparing) return absl::OkStatus();
  Slot& slot = At(worker);
  slot.prepared = true;
  slot.address = std::move(address);
  return absl::OkStatus();
}

absl::Status Membership::Opened(WorkerId worker, Epoch epoch) {
  if (epoch > epoch_)
    return absl::InvalidArgumentError(
        absl::StrCat("opened epoch ", epoch.value(), " of the future"));
  if (epoch < epoch_ || phase_ == EpochPhase::kWaiting || phase_ == EpochPhase::kOpen)
    return absl::OkStatus();
  if (phase_ != EpochPhase::kOpening) return absl::InvalidArgumentError("opened before open_epoch");
  At(worker).opened = true;
  return absl::OkStatus();
}

void Membership::Lose(WorkerId worker, const std::string& reason) {
  if (At(worker).state == SlotState::kVacant) return;
  At(worker) = Slot();
  At(worker).last_loss = reason;
  CloseEpoch();
}

std::vector<ExpiredMember> Membership::Expired() const {
  std::vector<ExpiredMember> expired;
  const TimePoint now = clock_.Now();
  const bool phase_is_late = (phase_ == EpochPhase::kPreparing || phase_ == EpochPhase::kOpening) &&
                             now - phase_start_ > phase_timeout_;
  for (size_t i = 0; i < slots_.size(); ++i) {
    const Slot& slot = slots_[i];
    if (slot.state == SlotState::kVacant) continue;
    const WorkerId worker(static_cast<int32_t>(i));
    if (now > slot.lease_end) {
      expired.push_back(
          {worker,
           absl::StrFormat("no sign of life for %d ms",
                           std::chrono::duration_cast<std::chrono::milliseconds>(lease_).count())});
    } else if (phase_is_late && !(phase_ == EpochPhase::kPreparing ? slot.prepared : slot.opened)) {
      expired.push_back({worker, absl::StrFormat("did not open epoch %d in time", epoch_.value())});
    }
  }
  return expired;
}

NextStep Membership::Next() {
  const auto all = [&](auto predicate) {
    return std::all_of(slots_.begin(), slots_.end(), predicate);
  };
  switch (phase_) {
    case EpochPhase::kWaiting:
      if (!all([](const Slot& slot) { return slot.state == SlotState::kReady; }))
        return NextStep::kNothing;
      epoch_ = Epoch(epoch_.value() + 1);
      for (Slot& slot : slots_) {
        slot.prepared = slot.opened = false;
        slot.address.clear();
      }
      Enter(EpochPhase::kPreparing);
      return NextStep::kPrepare;
    case EpochPhase::kPreparing:
      if (!all([](const Slot& slot) { return slot.prepared; })) return NextStep::kNothing;
      Enter(EpochPhase::kOpening);
      return NextStep::kOpen;
    case EpochPhase::kOpening:
      if (told_connect_ || !all([](const Slot& slot) { return slot.opened; }))
        return NextStep::kNothing;
      told_connect_ = true;
      return NextStep::kConnect;
    case EpochPhase::kOpen:
      break;
  }
  return NextStep::kNothing;
}

void Membership::Connected() { Enter(EpochPhase::kOpen); }
void Membership::CloseEpoch() { Enter(EpochPhase::kWaiting); }

void Membership::Enter(EpochPhase phase) {
  phase_ = phase;
  phase_start_ = clock_.Now();
  told_connect_ = false;
}

std::string Membership::Describe() const {
  if (phase_ == EpochPhase::kOpen) return absl::StrCat("serving, epoch ", epoch_.value());
  std::string text;
  for (size_t i = 0; i < slots_.size(); ++i) {
    const Slot& slot = slots_[i];
    const char* separator = text.empty() ? "" : "; ";
    if (slot.state == SlotState::kVacant) {
      absl::StrAppend(&text, separator, "worker ", i, " has not joined");
      if (!slot.last_loss.empty()) absl::StrAppend(&text, " again (lost: ", slot.last_loss, ")");
    } else if (slot.state == SlotState::kLoading) {
      const uint64_t percent =
          slot.slice_bytes == 0 ? 0 : slot.loaded_bytes * 100 / slot.slice_bytes;
      absl::StrAppend(&text, separator, "worker ", i, " is loading (", percent, " %)");
    }
  }
  return text.empty() ? absl::StrCat("opening epoch ", epoch_.value()) : text;
}

}  // namespace sheaf
