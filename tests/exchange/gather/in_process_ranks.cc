#include "tests/exchange/gather/in_process_ranks.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace sheaf {

class InProcessRanks::End final : public RankGroup {
 public:
  End(InProcessRanks& group, int rank) : group_(group), rank_(rank) {}

  int rank() const override { return rank_; }
  int num_ranks() const override { return group_.num_ranks_; }
  absl::StatusOr<Parts> Gather(std::span<const uint8_t> own) override {
    return group_.Gather(rank_, number_++, own);
  }
  void Abort(const absl::Status& why) override { group_.Abort(why); }

 private:
  InProcessRanks& group_;
  const int rank_;
  int64_t number_ = 0;  // of the next gather
};

InProcessRanks::InProcessRanks(int num_ranks, absl::Duration timeout)
    : num_ranks_(num_ranks), timeout_(timeout) {
  const size_t count = static_cast<size_t>(num_ranks);
  for (Round& round : rounds_) {
    round.memory.resize(count);
    round.parts.resize(count);
    round.arrived.resize(count);
  }
  for (int rank = 0; rank < num_ranks; ++rank) ends_.push_back(std::make_unique<End>(*this, rank));
}

InProcessRanks::~InProcessRanks() = default;

RankGroup& InProcessRanks::rank(int index) { return *ends_[static_cast<size_t>(index)]; }

absl::StatusOr<RankGroup::Parts> InProcessRanks::Gather(int rank, int64_t number,
                                                        std::span<const uint8_t> own) {
  const size_t at = static_cast<size_t>(rank);
  absl::MutexLock lock(&mutex_);
  Round& round = rounds_[number % 2];
  // The first to come finds the round of the gather before the last one.
  if (round.num_arrived == num_ranks_) {
    round.num_arrived = 0;
    round.arrived.assign(round.arrived.size(), false);
  }
  round.memory[at].assign(own.begin(), own.end());
  round.parts[at] = round.memory[at];
  round.arrived[at] = true;
  ++round.num_arrived;
  const auto over = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return !aborted_.ok() || round.num_arrived == num_ranks_;
  };
  if (!mutex_.AwaitWithTimeout(absl::Condition(&over), timeout_)) {
    std::string absent;
    for (size_t other = 0; other < round.arrived.size(); ++other) {
      if (!round.arrived[other]) absl::StrAppend(&absent, absent.empty() ? "" : ", ", other);
    }
    aborted_ = absl::DeadlineExceededError(
        absl::StrFormat("attention rank %d waited %s for rank %s", rank,
                        absl::FormatDuration(timeout_), absent));
  }
  if (!aborted_.ok()) return aborted_;
  return round.parts;
}

void InProcessRanks::Abort(const absl::Status& why) {
  absl::MutexLock lock(&mutex_);
  if (aborted_.ok()) aborted_ = why;
}

}  // namespace sheaf
