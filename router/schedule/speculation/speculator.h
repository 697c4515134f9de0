#pragma once
// Speculator: drafts for the sequences of a step, by prompt lookup (ngram_index.h), as many as
// should pay (draft_plan.h), what became of them (draft_record.h), and whether they did pay
// (draft_payoff.h).
//
// Exact      a draft is only a guess which rows to compute: each row's token is sampled as ever, by
//            its output index, and the first that differs from the draft ends it. The output is the
//            same with and without.
// Ownership  keeps an index for each sequence that it has seen until Forget: about 60 bytes a
//            token.
// Threads    one.
// Cost       the new tokens of each sequence, at most kMostNewTokens a step each; a sequence whose
//            prompt is not all indexed yet gets no draft.

#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "router/schedule/speculation/draft_payoff.h"
#include "router/schedule/speculation/draft_plan.h"
#include "router/schedule/speculation/draft_record.h"
#include "router/schedule/speculation/ngram_index.h"

namespace sheaf {

struct SpeculationOptions {
  int longest_draft = 0;  // tokens, at most DraftRecord::kLongest; 0: no speculation
  NgramOptions ngram{};
  // the longest that there is, whether it pays or not: for measurements and tests
  bool always = false;
};

// A sequence of the step.
struct SpeculatedRun {
  SequenceId id;
  std::span<const TokenId> text;  // prompt and output; only ever grows
  int room = 0;  // drafted tokens that it may have at most; 0: none in this step (it prefills)
};

class Speculator {
 public:
  static constexpr int kMostNewTokens = 4096;

  explicit Speculator(const SpeculationOptions& options) : options_(options) {}

  bool enabled() const { return options_.longest_draft > 0; }

  // By index of `runs`; valid until the next call.
  const std::vector<std::vector<TokenId>>& Draft(std::span<const SpeculatedRun> runs,
                                                 const DraftBudget& budget);
  // Of the drafted >= 1 tokens of the last Draft the first `accepted` came true.
  void Verified(SequenceId id, int drafted, int accepted);
  // The step of the last Draft ran to its end and gave so many tokens; told only of steps without
  // prompts.
  void StepRan(int tokens, Duration took);
  void Forget(SequenceId id) { known_.erase(id); }

 private:
  struct Known {
    explicit Known(const NgramOptions& options) : index(options) {}
    NgramIndex index;
    DraftRecord record;
    int indexed = 0;  // tokens
  };
  // Up to room tokens; empty: nothing to go by.
  std::vector<TokenId> DraftOf(Known& known, const SpeculatedRun& run) const;

  const SpeculationOptions options_;
  std::unordered_map<SequenceId, Known> known_;
  std::vector<std::vector<TokenId>> drafts_;
  DraftPayoff payoff_;
  int decoding_ = 0;      // sequences of the last Draft that had room for one
  bool drafted_ = false;  // in it
};

}  // namespace sheaf
