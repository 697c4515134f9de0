#pragma once
// What the coordinator knows of one worker (Member), one router (RouterMember) and one share whose
// worker was lost (LostShare). Plain records; coordinator/pool_state.h keeps them.

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "coordinator/expert_set.h"
#include "coordinator/quarantine.h"
#include "coordinator/session_hello.h"
#include "sheaf/v1/pool.pb.h"

namespace sheaf {

using SessionId = Id<struct PoolSessionTag, uint64_t>;  // one stream to the coordinator

struct SentHold {
  uint64_t number = 0;
  ExpertSet experts;
};

// A router's link to a worker, as it reported it last.
struct LinkSeen {
  bool live = false;
  double seconds_per_unit = 0;
  std::string reason;
};

struct Member {
  explicit Member(const QuarantineOptions& options) : quarantine(options) {}

  WorkerId id;
  SessionId session;
  WorkerFacts facts;

  ExpertSet held;     // announced last
  ExpertSet target;   // of the plan
  ExpertSet refused;  // could not be loaded
  TimePoint refused_until;
  std::string refused_reason;

  // Holds that it may still carry out, oldest first; and whether nothing older is.
  std::vector<SentHold> sent;
  bool settled = false;
  uint64_t hold_number = 0;
  TimePoint hold_sent;
  ExpertSet urgent_sent;
  uint64_t ceiling_sent = 0;

  bool spare = false;
  bool draining = false;
  bool leaving = false;
  TimePoint leaving_since;
  bool dismissed = false;
  bool ready = false;  // as was noted last
  Quarantine quarantine;

  Duration heard{0};       // awake time of its last message
  TimePoint last_message;  // as the transport stamped it
  v1::WorkerBeat beat;
  std::map<SessionId, LinkSeen> links;

  // Others may rely on what it holds.
  bool counts() const { return !leaving && !draining && !quarantine.inside(); }
  bool takes() const { return counts() && !spare; }

  // Held, and in every Hold that may still be carried out.
  ExpertSet Certain() const {
    ExpertSet certain = held;
    if (!settled) certain.RemoveAll(held);
    for (const SentHold& hold : sent) certain.KeepOnly(hold.experts);
    return certain;
  }
  int64_t slots() const {  // 0 = no bound
    if (facts.memory_bytes == 0) return 0;
    return static_cast<int64_t>(std::max<uint64_t>(1, facts.memory_bytes / facts.expert_bytes));
  }
  // Mean of what its routers measured; 0 = nobody did.
  double SecondsPerUnit() const {
    double sum = 0;
    int known = 0;
    for (const auto& [router, link] : links) {
      if (!(link.seconds_per_unit > 0)) continue;
      sum += link.seconds_per_unit;
      ++known;
    }
    return known == 0 ? 0 : sum / known;
  }
};

// By id; plans and messages go through workers in this order.
using Roster = std::map<WorkerId, Member>;

struct RouterMember {
  RouterFacts facts;
  std::vector<size_t> orphans;  // its steps wait for these
  TimePoint orphans_at;
};

// What a lost worker was to hold: for a while it is left to its replacement.
struct LostShare {
  ExpertSet target;
  uint64_t memory_bytes = 0;
  TimePoint adopt_at;
};

}  // namespace sheaf
