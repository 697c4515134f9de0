#pragma once
// HoldingPlan: what a worker does next to hold exactly what it was asked to hold. Pure: events and
// time in, one action at a time out; threads, files and links are the business of HoldingLoader.
//
//   load      in the order asked for; what is waited for (urgent) at once, the rest under a ceiling
//             of bytes a second. Never beyond memory_bytes: where there is no room yet it waits for
//             what is going, where none is coming it refuses.
//   announce  the whole set under the next number: at once when something goes, when something
//             urgent has come or when all is done; else every `announce_every`
//   drop      what is held and not wanted: first it is not announced any more, then every live link
//             must have seen that announcement (or seen_patience passes), then its memory goes
//   reload    beside what is held, which is then replaced; without room for both it goes first
//
// Threads    one at a time. Errors: none; what cannot be is an action (kRefuse).

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "exchange/wire/holdings.h"

namespace sheaf {

// "Hold exactly this."
struct HoldRequest {
  uint64_t number = 0;
  std::vector<LayerExpert> experts;  // in the order to load them; of the model, each once
  size_t num_urgent = 0;             // from the front
  uint64_t max_bytes_per_second = 0;  // read from files for the others; 0 = no ceiling
};

struct HoldingPlanOptions {
  int num_layers = 0;
  int num_experts = 0;
  uint64_t memory_bytes = 0;  // 0 = no bound
  uint64_t expert_bytes = 1;  // resident, one expert
  uint64_t expert_file_bytes = 1;
  Duration announce_every = std::chrono::milliseconds(100);
  Duration seen_patience = std::chrono::seconds(10);
};

struct HoldingAction {
  enum class Kind {
    kLoad,      // `experts`: one; then Loaded or LoadFailed
    kAnnounce,  // `holdings` to every link and the coordinator
    kDrop,      // `experts` leave the store now; then Freed when their memory is back
    kRefuse,    // `experts`: one, of hold `number`: no room
    kWait,      // nothing until an event or `until`
  };
  Kind kind = Kind::kWait;
  std::vector<LayerExpert> experts;
  Holdings holdings;
  uint64_t number = 0;
  TimePoint until = TimePoint::max();
};

class HoldingPlan {
 public:
  explicit HoldingPlan(const HoldingPlanOptions& options);

  void Want(HoldRequest request);
  void Reload(const LayerExpert& pair);
  // Every live link has seen that announcement.
  void Seen(uint64_t number);

  // Ends a kLoad. Only what is kept goes to the store; the rest is let go.
  enum class Verdict { kKeep, kNotWanted, kNoRoom };
  Verdict Loaded(const LayerExpert& pair, size_t resident_bytes);
  void LoadFailed(const LayerExpert& pair);
  // Memory of a replaced, dropped or unwanted expert that Loaded or kDrop counted is back.
  void Freed(size_t bytes);

  HoldingAction Next(TimePoint now);

  // The n-th expert from now on that will be loaded without a ceiling, to read it ahead.
  std::optional<LayerExpert> Ahead(size_t n) const;

  const Holdings& announced() const { return announced_; }
  uint64_t hold_number() const { return request_.number; }
  uint64_t left_bytes() const;  // of files, an estimate; 0 = nothing is left to load
  // Nothing is being loaded, waited for or dropped.
  bool quiet() const;

 private:
  struct Retiring {
    uint64_t number = 0;  // of the announcement without it; 0 = not made yet
    TimePoint deadline;
  };
  bool Wanted(const LayerExpert& pair) const { return wanted_.Has(pair.layer, pair.expert); }
  bool Held(const LayerExpert& pair) const { return held_.count(pair) != 0; }
  // Still to be loaded, by nobody yet.
  bool Missing(const LayerExpert& pair) const;
  void SkipWhatIsNotMissing();
  void Show(const LayerExpert& pair, bool at_once);
  void Retire(const LayerExpert& pair);
  uint64_t UsedBytes() const;

  std::optional<HoldingAction> Drop(TimePoint now);
  std::optional<HoldingAction> Announce(TimePoint now);
  // Nothing, with `wake` brought forward, when it must wait.
  std::optional<HoldingAction> Load(TimePoint now, TimePoint& wake);
  std::optional<HoldingAction> LoadAgain();

  const HoldingPlanOptions options_;
  HoldRequest request_;
  Holdings wanted_;
  Holdings urgent_;
  size_t next_ = 0;      // in request_.experts: what is before is not missing
  size_t num_left_ = 0;  // missing ones, those being loaded included

  std::map<LayerExpert, size_t> held_;       // resident bytes; those that go included
  std::map<LayerExpert, Retiring> retiring_;  // held, and not to be asked for any more
  std::set<LayerExpert> loading_;
  std::set<LayerExpert> failed_;  // in this hold
  std::deque<LayerExpert> again_;  // to be replaced
  std::set<LayerExpert> bad_;      // retiring because their bytes are wrong
  uint64_t held_bytes_ = 0;
  uint64_t going_bytes_ = 0;  // dropped, and a job may still read them

  Holdings announced_;
  Holdings target_;  // what the next announcement says
  bool changed_ = false;
  bool at_once_ = false;
  uint64_t seen_ = 0;
  TimePoint next_announcement_ = TimePoint::min();
  TimePoint next_paced_load_ = TimePoint::min();
};

}  // namespace sheaf
