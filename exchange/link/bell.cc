#include "exchange/link/bell.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/status.h"

namespace sheaf {

absl::StatusOr<std::unique_ptr<Bell>> Bell::Create() {
  SHEAF_ASSIGN_OR_RETURN(MemoryFile memory, MemoryFile::Create("sheaf-bell", kDoorbellBytes));
  std::unique_ptr<Bell> bell(new Bell());
  bell->memory_ = std::move(memory);
  bell->doorbell_ = Doorbell(bell->memory_.data());
  return bell;
}

bool Bell::LookPast(uint32_t seen, Duration time) {
  if (time <= Duration{0} || rings() != seen) return rings() != seen;
  looked_from_ = std::chrono::steady_clock::now();
  looked_ = time;
  if (brief_waits_ < kLooksFrom || !doorbell_.LookPast(seen, time)) return false;
  Waited(/*briefly=*/true);
  return true;
}

void Bell::WaitPast(uint32_t seen, TimePoint deadline) {
  doorbell_.WaitPast(seen, deadline);
  if (looked_ == Duration{0}) return;
  // Waking took some of it.
  const bool briefly = std::chrono::steady_clock::now() - looked_from_ < 2 * looked_;
  if (briefly && rings() == seen) return;  // for no reason: it goes on
  Waited(briefly);
}

void Bell::Waited(bool briefly) {
  brief_waits_ = std::clamp(brief_waits_ + (briefly ? 1 : -1), 0, kMostBriefWaits);
  looked_ = Duration{0};
}

}  // namespace sheaf
