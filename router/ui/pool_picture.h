#pragma once
// PoolPicture: what a router knows of the experts' side at one moment, for people: its links, which
// it sees itself, and what the coordinator says of the members, as long as it answers. Plain
// records; pool_json.h writes them. Times in seconds or milliseconds as named, sizes in bytes.

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace sheaf {

// What the coordinator says of a member.
struct MemberPicture {
  std::string state{};  // loading, ready, draining, spare, quarantined
  std::string host{};
  int64_t pid = 0;  // 0: not told
  int64_t held_experts = 0;
  int64_t wanted_experts = 0;
  uint64_t resident_bytes = 0;
  uint64_t memory_bytes = 0;  // 0: no bound
  uint64_t left_bytes = 0;    // still to be loaded
  double load_share = 0;      // of the pool's measured pairs, [0, 1]
  int live_links = 0;         // of all routers
  int64_t silent_ms = 0;
  std::string note{};  // why it is in this state; empty: nothing to say
};

struct LinkPicture {
  bool live = false;
  std::string path{};    // of the link that lives, or lived last
  std::string reason{};  // why it is not live; empty: it is, or never was
  int64_t failures = 0;
  int64_t late_answers = 0;
  int owed_answers = 0;
  double seconds_per_unit = 0;  // mean time of a unit of work; 0: not known
};

struct WorkerPicture {
  int id = 0;
  std::string name{};                   // "pid 12 on host a"; empty: not told
  std::optional<LinkPicture> link{};   // absent: the router does not know of it (yet)
  std::optional<MemberPicture> member{};  // absent: no coordinator answers, or it has lost it
};

struct LostWorkerPicture {
  int id = 0;
  uint64_t instance = 0;  // of that life
  std::string host{};
  int64_t pid = 0;
  std::string reason{};
  int64_t ms_ago = 0;
};

struct PoolPicture {
  // Where the experts are: in this process, in threads of it, or in a pool's workers.
  enum class Place { kHere, kThreads, kWorkers };
  Place place = Place::kHere;
  bool coordinator_speaks = false;
  bool complete = true;  // every expert has a live holder
  std::string text{};      // what is being waited for; empty: nothing to say
  std::array<int64_t, 4> coverage{};  // (layer, expert) pairs with 0, 1, 2, 3 or more live holders
  int live_links = 0;
  uint64_t holdings_version = 0;  // ExpertMap's
  std::vector<WorkerPicture> workers{};  // ascending
  // Of the coordinator, where it speaks.
  double replicas = 0;
  int routers = 0;
  uint64_t moving_bytes = 0;
  std::vector<LostWorkerPicture> lost{};  // oldest first
};

}  // namespace sheaf
