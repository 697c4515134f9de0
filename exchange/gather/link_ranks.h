#pragma once
// Ranks that are processes, over links (exchange/link/frame_link.h): each has one to rank 0, which
// passes the others' parts on. Two ranks thus exchange their parts at once; of more, a part takes
// two trips.
//
//   rank 0                                       rank r
//   kStepPlan (step)                       -->
//   kPart (gather 1, part 0)               -->
//                                          <--   kPart (gather 1, part r)
//   kPart (gather 1, the others')          -->
//   ...
//   kStepOver (why)                        <->   ends the step at both; later frames of it are
//                                          dropped
//
// HubRanks   rank 0's end. Links come and go: AdoptLinks takes those that came, between steps; a
//            link that breaks or is late is closed. A rank without a link makes Begin fail.
// LeafRank   any other rank's end, of one link. It waits for rank 0 as long as the link lives: rank
//            0 has the deadlines.
//
// Bounds     a part waits in its link until it is read, so a rank is at most one gather ahead of
//            another.
// Threads    Offer, Withdraw, Ready, TakeLate, tally: any; the rest: the one step thread of the
//            process.
// Ownership  parts lie in the links' memory until the next Gather.
// Errors     of HubRanks: kUnavailable (a rank is gone, late or talks nonsense; its link is closed;
//            named). A rank that says kStepOver: kInternal with its words. Of LeafRank:
//            kUnavailable (the link is lost); kAborted (rank 0 ended the step).

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "base/clock.h"
#include "exchange/gather/rank_group.h"
#include "exchange/link/bell.h"
#include "exchange/link/frame_link.h"

namespace sheaf {

// Why a rank is in its group no more.
enum class RankEnd {
  kClosed,    // its process, its host or its link went
  kLate,      // no part of a step in time
  kNonsense,  // a frame that fits nothing
  kForged,    // a frame that is not as the rank sent it
  kOther,
};
inline constexpr size_t kRankEnds = 5;

// Since the start.
struct RankTally {
  int present = 1;     // ranks that are there, rank 0 included
  int64_t groups = 0;  // times that the last missing one came
  std::array<int64_t, kRankEnds> lost{};
};

// Of a step, at rank 0.
struct GatherFigures {
  int64_t gathers = 0;
  int64_t sent_bytes = 0;  // payloads: the plan and parts, to all other ranks
  int64_t received_bytes = 0;
  Duration waited{0};  // for the others' parts, from when its own was sent
  bool lost_rank = false;
};

struct RankPatience {
  // Longest wait for a rank inside a step, and how much longer for each of its rows.
  Duration step = std::chrono::seconds(2);
  Duration row = std::chrono::milliseconds(20);
};

class HubRanks final : public RankGroup {
 public:
  // `bell` rings for all links that are offered, and outlives this.
  HubRanks(int num_ranks, uint32_t model, Bell& bell, const Clock& clock, RankPatience patience);
  ~HubRanks() override;

  // A new link of that rank, which replaces an older one. `who`: the process, for messages.
  void Offer(int rank, std::unique_ptr<FrameLink> link, std::string who);
  // The rank's process is gone or given up: no step begins with its link.
  void Withdraw(int rank);
  // OK when every rank has a link; else names those that have none.
  absl::Status Ready() const;
  // Between steps. Whether any came: what that rank's process had computed before is not there.
  bool AdoptLinks();
  // Ranks whose links were closed because they did not answer in time; each once.
  std::vector<int> TakeLate();
  RankTally tally() const;
  // Since they were last taken; after a step, its own.
  GatherFigures TakeFigures() { return std::exchange(figures_, {}); }

  int rank() const override { return 0; }
  int num_ranks() const override { return num_ranks_; }
  absl::Status Begin(StepId step, int rows, std::span<const uint8_t> plan) override;
  absl::StatusOr<Parts> Gather(std::span<const uint8_t> own) override;
  void Abort(const absl::Status& why) override;

 private:
  struct Peer {
    std::unique_ptr<FrameLink> link;
    std::string who;
    std::string lost;      // why it has no link any more
    bool arrived = false;  // its part of the gather under way
  };
  struct Offered {
    std::unique_ptr<FrameLink> link;
    std::string who;
  };

  void SetPresent(int rank) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SetAbsent(int rank, RankEnd why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Lose(int rank, const absl::Status& why);
  absl::Status Send(int rank, FrameHeader header, std::span<const uint8_t> payload);
  // Looks for the part of that rank; OK also when it has not come yet.
  absl::Status Look(int rank);

  const int num_ranks_;
  const uint32_t model_;
  Bell& bell_;
  const Clock& clock_;
  const RankPatience patience_;
  std::vector<Peer> peers_;  // by rank; [0] is unused
  std::vector<std::span<const uint8_t>> parts_;
  StepId step_;
  uint64_t number_ = 0;  // of the last gather of the step
  Duration longest_wait_{};
  bool open_ = false;  // begun and not aborted
  GatherFigures figures_;

  mutable absl::Mutex mutex_;
  std::vector<Offered> offered_ ABSL_GUARDED_BY(mutex_);  // by rank
  std::vector<bool> present_ ABSL_GUARDED_BY(mutex_);     // by rank: a link is there or offered
  std::vector<int> late_ ABSL_GUARDED_BY(mutex_);
  RankTally tally_ ABSL_GUARDED_BY(mutex_);
};

class LeafRank final : public RankGroup {
 public:
  LeafRank(int rank, int num_ranks, uint32_t model, std::unique_ptr<FrameLink> link, Bell& bell);

  struct Plan {
    StepId step;
    std::span<const uint8_t> bytes;  // until the first Gather
  };
  // The next step's. kCancelled: `stop` said so; it is asked at every ring of the bell and ten
  // times a second.
  absl::StatusOr<Plan> AwaitPlan(const std::function<bool()>& stop);

  int rank() const override { return rank_; }
  int num_ranks() const override { return num_ranks_; }
  absl::StatusOr<Parts> Gather(std::span<const uint8_t> own) override;
  void Abort(const absl::Status& why) override;

 private:
  absl::Status Send(FrameHeader header, std::span<const uint8_t> payload);

  const int rank_;
  const int num_ranks_;
  const uint32_t model_;
  const std::unique_ptr<FrameLink> link_;
  Bell& bell_;
  std::vector<std::span<const uint8_t>> parts_;
  StepId step_;
  uint64_t number_ = 0;
  bool open_ = false;
};

}  // namespace sheaf
