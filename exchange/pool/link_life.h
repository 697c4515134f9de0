#pragma once
// LinkLife: when the link to one worker is connected, tried again, and given up. Pure: events and
// time in, one action at a time out; exchange/pool/pool_links carries them out.
//
//   idle -> connecting -> greeting (welcome, waits for the first announcement) -> live
//            ^        back-off <-'---------------------------------------------'
//
// Back-off   doubles from first_back_off to max_back_off, up to a half more by chance; a link that
//            lived for max_back_off or answered begins from the start. A worker that will never
//            take this router (kFailedPrecondition) is asked every refused_back_off.
// Silence    an answer that is owed for longer than it was given time ends the link. Time that the
//            router itself slept through does not count (Forgive).
// Threads    one at a time.

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "base/clock.h"
#include "exchange/wire/frame.h"

namespace sheaf {

struct LinkLifeOptions {
  Duration first_back_off = std::chrono::milliseconds(20);
  Duration max_back_off = std::chrono::seconds(2);
  Duration refused_back_off = std::chrono::seconds(10);
  Duration greeting_timeout = std::chrono::seconds(2);
};

class LinkLife {
 public:
  enum class State : uint8_t { kIdle, kBackOff, kConnecting, kGreeting, kLive };
  enum class Action : uint8_t { kNone, kConnect, kBreak };
  struct OwedAnswer {
    FrameHeader dispatch;
    uint64_t ask = 0;
    TimePoint asked_at;
    TimePoint silent_at;
  };

  LinkLife(const LinkLifeOptions& options, uint64_t seed) : options_(options), random_(seed | 1) {}

  State state() const { return state_; }
  // The worker should be linked, or need not be (a link that lives goes on).
  void SetWanted(bool wanted, TimePoint now);
  // Another process, or other addresses: what was learned about the old ones does not count.
  void StartAfresh(TimePoint now);
  void Connected(TimePoint now);
  void ConnectFailed(const absl::Status& why, TimePoint now);
  void Greeted(TimePoint now);  // its first announcement came
  void Broken(TimePoint now);

  void Asked(const OwedAnswer& owed) { owed_.push_back(owed); }
  // The dispatch that `sequence` answers; it is owed no more.
  std::optional<OwedAnswer> Answered(uint64_t sequence);
  const std::vector<OwedAnswer>& owed() const { return owed_; }
  void Forgive(Duration by);

  // kConnect: connecting() from now on. kBreak: Why() says why; call Broken().
  Action Due(TimePoint now);
  absl::Status Why(TimePoint now) const;
  TimePoint WakeAt() const;  // TimePoint::max(): not by itself

 private:
  void BackOff(Duration pause, TimePoint now);

  const LinkLifeOptions options_;
  uint64_t random_;
  State state_ = State::kIdle;
  bool wanted_ = false;
  bool answered_ = false;  // since it is live
  Duration back_off_{0};   // the last pause before chance
  TimePoint until_;        // of back-off or greeting
  TimePoint live_since_;
  std::vector<OwedAnswer> owed_;  // ascending sequence
};

}  // namespace sheaf
