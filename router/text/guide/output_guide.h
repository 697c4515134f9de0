#pragma once
// OutputGuide: what may come next in one sequence, by its plan (guide_plan.h).
//
//   thoughts (free, or without stop tokens when a grammar follows) -> before_answer -> grammar
//
// Use: while forced() has a token, append it; otherwise sample under rule() (and ComputeMask, where
// the rule names the grammar); Accept either. A stop token that ends the sequence is not accepted.
// What is forced depends on the accepted tokens alone, so a sequence is the same however its tokens
// are grouped into steps.
//
// A grammar's forced runs spell a text in the tokenizer's usual way; the mask allows other
// spellings too. Where a request names token ids itself (allowed, banned, biased, stop ids) its own
// choice counts, so runs are left off and every token of the grammar is sampled.
//
// Threads  one at a time, different ones in turn.
// Errors   Create, ComputeMask, Accept: the grammar's. The guide is of no use afterwards.

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/ids.h"
#include "router/text/guide/guide_plan.h"

namespace sheaf {

// What may be sampled.
enum class GuideRule {
  kFree,           // anything
  kNoStop,         // thoughts before a grammar: no stop token but </think>, no tag of the format
  kGrammar,        // what the mask allows
  kGrammarOrStop,  // and stop tokens: the text is complete
  kStopOnly,       // the text is complete and nothing can follow
};

class OutputGuide {
 public:
  // kInternal: a plan that its thoughts' tags do not bear out.
  static absl::StatusOr<std::unique_ptr<OutputGuide>> Create(std::shared_ptr<const GuidePlan> plan,
                                                             bool append_grammar_runs);

  // The token that must come next, to be appended without sampling.
  std::optional<TokenId> forced() const;
  GuideRule rule() const;
  // As OutputGrammarState's; for the rules that name the grammar. The rule may be kStopOnly after
  // it.
  absl::Status ComputeMask(std::span<uint32_t> mask);
  // `token`: forced() if there is one, else a sampled one.
  absl::Status Accept(TokenId token);

  const GuidePlan& plan() const { return *plan_; }

 private:
  enum class Phase { kThoughtsOrFree, kBeforeAnswer, kGrammar };

  OutputGuide(std::shared_ptr<const GuidePlan> plan, bool append_grammar_runs);
  void FindForced();

  const std::shared_ptr<const GuidePlan> plan_;
  const bool append_grammar_runs_;
  std::unique_ptr<OutputGrammarState> grammar_;  // null: none
  Phase phase_ = Phase::kThoughtsOrFree;
  ThoughtTracker thoughts_;
  std::deque<TokenId> forced_;
};

}  // namespace sheaf
