// What the step thread has to do with the queue: who is over there, who is taken, who goes back.

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_format.h"
#include "router/schedule/queue/slot_turns.h"
#include "router/schedule/step/cache_view.h"
#include "router/schedule/step/step_loop.h"

namespace sheaf {
namespace {

// Beyond those that fit the free slots: some may be overtaken.
constexpr int kMoreThanFit = 8;

}  // namespace

void StepLoop::EndExpired(std::unique_ptr<Sequence> sequence) {
  const std::string where = sequence->admitted.has_value()
                                ? absl::StrFormat("after %d tokens", sequence->output_tokens())
                                : std::string("while it waited in the queue");
  Finish(std::move(sequence), FinishReason::kError,
         absl::DeadlineExceededError("the request's deadline passed " + where));
}

void StepLoop::EndWaitingOver(TimePoint now) {
  if (!ledger_.WaitingIsOver(now)) return;
  RequestLedger::Over over = ledger_.TakeWaitingOver(now);
  for (auto& sequence : over.cancelled) {
    Finish(std::move(sequence), FinishReason::kCancelled, absl::OkStatus());
  }
  for (auto& sequence : over.expired) EndExpired(std::move(sequence));
}

std::vector<QueuedSequence> StepLoop::LookAtQueue(CacheView& view, TimePoint now) {
  const int free_slots = options_.max_num_seqs - static_cast<int>(running_.size());
  if (free_slots < 1) return {};
  std::vector<QueuedSequence> front;
  const std::vector<Sequence*> sequences = ledger_.PeekQueued(free_slots + kMoreThanFit, now);
  for (const Sequence* const sequence : sequences) {
    QueuedSequence& queued = front.emplace_back();
    queued.id = sequence->id();
    queued.total_tokens = sequence->total_tokens();
    queued.priority = sequence->request().priority;
    queued.waited = now - sequence->submitted();
  }
  view.Describe(sequences, front);
  for (auto& sequence : ledger_.TakeHopeless(front, now)) {
    const SequenceId id = sequence->id();
    std::erase_if(front, [&](const QueuedSequence& queued) { return queued.id == id; });
    Finish(std::move(sequence), FinishReason::kError,
           absl::DeadlineExceededError("at its turn too little time was left before the request's "
                                       "deadline"));
  }
  return front;
}

int StepLoop::MakeRoom(TimePoint now) {
  if (running_.empty()) return 0;
  const std::optional<FairOrder::Standing> next = ledger_.NextInQueue(now);
  if (!next.has_value()) return 0;
  const int block_size = cache_.block_size();
  SlotRoom room;
  room.free_slots = options_.max_num_seqs - static_cast<int>(running_.size());
  room.free_blocks = cache_.num_free();
  for (const auto& sequence : running_) {
    room.free_blocks -=
        std::max(0, BlocksForTokens(sequence->total_tokens(), block_size) -
                        static_cast<int>(sequence->blocks.size()));
  }
  room.blocks_wanted = BlocksForTokens(int64_t{next->tokens} + 1, block_size) +
                       std::max(1, cache_.num_blocks() / 100);
  if (room.free_slots > 0 && room.free_blocks >= room.blocks_wanted) return 0;
  std::vector<SequenceId> ids;
  for (const auto& sequence : running_) ids.push_back(sequence->id());
  const std::vector<FairOrder::Standing> standings = ledger_.StandingsOf(ids);
  std::vector<SlotHolder> holders;
  for (size_t i = 0; i < running_.size(); ++i) {
    holders.push_back({standings[i], running_[i]->computed_tokens,
                       static_cast<int>(running_[i]->blocks.size())});
  }
  const std::vector<SequenceId> yielding =
      WhoYields(*next, holders, room, options_.slot_turns, now);
  for (const SequenceId id : yielding) PutBack(id, FairOrder::ComesBack::kDisplaced, now);
  return static_cast<int>(yielding.size());
}

void StepLoop::Account(const StepReport& report) {
  std::vector<RequestLedger::Ran> ran;
  int most_new_tokens = 0;
  for (size_t i = 0; i < runs_.size(); ++i) {
    if (in_flight_.IsOver(static_cast<int>(i))) continue;
    const Sequence& sequence = *runs_[i].sequence;
    ran.push_back({sequence.id(), runs_[i].num_tokens,
                   sequence.prefilled || sequence.ChunkSamples(runs_[i].num_tokens)});
    most_new_tokens =
        std::max(most_new_tokens, static_cast<int>(results_[i].next.tokens.size()));
  }
  ledger_.StepRan(ran, report.duration, report.prefill_tokens, most_new_tokens);
}

}  // namespace sheaf
