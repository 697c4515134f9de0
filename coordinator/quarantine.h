#pragma once
// Quarantine: one worker's record of faults, and whether and how long it is taken out.
//
//   links      `max_failures` of them within `window`: out
//   reach      routers that reach other workers have not reached this one for `unreachable_after`:
//              out
//   answers    a wrong one: the expert is to be read again; another within a minute: out
// Out lasts first_stay, doubled each time up to max_stay; a worker that was good for max_stay
// starts afresh.
//
// Threads    one at a time; time comes in. Pure.

#include <deque>
#include <optional>
#include <string>

#include "base/clock.h"

namespace sheaf {

struct QuarantineOptions {
  int max_failures = 5;
  Duration window = std::chrono::seconds(30);
  Duration unreachable_after = std::chrono::seconds(10);
  Duration wrong_window = std::chrono::minutes(1);
  Duration first_stay = std::chrono::seconds(5);
  Duration max_stay = std::chrono::minutes(5);
};

class Quarantine {
 public:
  explicit Quarantine(const QuarantineOptions& options) : options_(options) {}

  // True: it should be taken out. Enter does that, or not: the last worker stays.
  bool LinkFailed(int times, TimePoint now);
  bool Reached(bool reached, TimePoint now);
  bool AnsweredWrong(TimePoint now);

  // `wrong`: what it holds cannot be trusted.
  void Enter(std::string reason, bool wrong, TimePoint now);
  // True once, when the stay is over.
  bool Release(TimePoint now);

  bool inside() const { return until_.has_value(); }
  bool wrong() const { return inside() && wrong_; }
  const std::string& reason() const { return reason_; }
  Duration stay() const { return stay_; }

 private:
  QuarantineOptions options_;
  std::deque<TimePoint> failures_;
  std::optional<TimePoint> unreached_since_;
  std::optional<TimePoint> last_wrong_;
  std::optional<TimePoint> until_;
  TimePoint released_;
  Duration stay_{0};
  bool wrong_ = false;
  std::string reason_;
};

}  // namespace sheaf
