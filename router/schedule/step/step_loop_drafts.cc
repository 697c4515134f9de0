// The step loop's speculation: which sequences of a planned step have drafts verified in it, and
// what became of them.
#include <algorithm>

#include "base/check.h"
#include "router/schedule/step/step_loop.h"

namespace sheaf {

// Drafts take what the plan left of the step's tokens, and blocks only while plenty are free.
void StepLoop::AddDrafts(int planned_tokens) {
  const int block_size = cache_.block_size();
  int spare_blocks = cache_.num_free() - cache_.num_blocks() / 100 -
                     static_cast<int>(running_.size());
  std::vector<SpeculatedRun> speculated;
  for (const SequenceRun& run : runs_) {
    const Sequence& sequence = *run.sequence;
    const int owned_tokens = static_cast<int>(sequence.blocks.size()) * block_size;
    const int spare_tokens = spare_blocks > 0 ? block_size : 0;
    const bool decodes = sequence.ChunkSamples(run.num_tokens) && sequence.prefilled;
    const int room = std::min(owned_tokens + spare_tokens - sequence.total_tokens(),
                              sequence.tokens_left() - 1);
    spare_blocks -= decodes;
    // A prompt is indexed as it is computed, so that none is indexed in one step.
    speculated.push_back({sequence.id(),
                          sequence.tokens().first(sequence.computed_tokens + run.num_tokens),
                          decodes ? std::max(0, room) : 0});
  }
  const auto& drafts = speculator_.Draft(
      speculated, {options_.max_num_batched_tokens - planned_tokens,
                   [&](int added_rows) { return planner_.MsWithDrafts(added_rows); }});
  int drafted = 0;
  for (size_t i = 0; i < runs_.size(); ++i) {
    SequenceRun& run = runs_[i];
    run.draft = drafts[i];
    drafted += static_cast<int>(run.draft.size());
    const int positions = run.sequence->total_tokens() + static_cast<int>(run.draft.size());
    const int missing = BlocksForTokens(positions, block_size) -
                        static_cast<int>(run.sequence->blocks.size());
    if (run.draft.empty() || missing <= 0) continue;
    const bool allocated = cache_.Allocate(missing, run.sequence->blocks);
    SHEAF_CHECK(allocated, "a draft's room is within the blocks that are free");
  }
  planner_.AddDrafts(drafted);
}

void StepLoop::CountDraft(const SequenceRun& run, const SequenceResult& result,
                          StepReport& report) {
  if (run.draft.empty() || !result.status.ok()) return;
  const int drafted = static_cast<int>(run.draft.size());
  speculator_.Verified(run.sequence->id(), drafted, result.drafts_accepted);
  ++report.drafts;
  report.drafted_tokens += drafted;
  for (int i = 0; i < result.drafts_accepted; ++i) ++report.accepted_at[i];
}

}  // namespace sheaf
