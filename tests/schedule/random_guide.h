#pragma once
// Random plans of guides over the small tokenizer of tests/text: thoughts of every kind, budgets,
// toy grammars with forced runs.

#include <memory>
#include <random>

#include "router/text/guide/guide_plan.h"
#include "tests/schedule/byte_tokenizer.h"
#include "tests/text/guide/toy_grammar.h"

namespace sheaf::testing {

inline constexpr ThoughtTags kToyTags = {kThink, kNoThink, kUser};

inline ToyGrammarSpec RandomGrammar(std::mt19937_64& random, int max_places) {
  ToyGrammarSpec spec;
  spec.places.resize(1 + random() % max_places);
  spec.end_is_found_late = random() % 2 == 0;
  for (size_t i = 0; i < spec.places.size(); ++i) {
    const int choices = random() % 2 == 0 ? 1 : 2 + static_cast<int>(random() % 30);
    for (int c = 0; c < choices; ++c)
      spec.places[i].push_back(static_cast<TokenId>(random() % 256));
    if (i > 0 && random() % 8 == 0) spec.complete_before.insert(i);
  }
  return spec;
}

inline std::shared_ptr<const GuidePlan> RandomPlan(std::mt19937_64& random) {
  auto plan = std::make_shared<GuidePlan>();
  plan->start = static_cast<ThoughtStart>(random() % 3);
  plan->tags = kToyTags;
  plan->open_thoughts = {'\n', kThink};
  if (random() % 2 == 0) plan->before_answer = {'\n'};
  if (random() % 4 != 0) plan->thinking_token_budget = static_cast<int32_t>(random() % 10);
  if (random() % 4 != 0) {
    plan->grammar = std::make_shared<ToyGrammar>(RandomGrammar(random, 25));
  }
  return plan;
}

}  // namespace sheaf::testing
