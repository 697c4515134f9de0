#pragma once
// PlanDrafts: how many drafted tokens each decoding sequence should have verified in the next step,
// so that the step's tokens per second are most. A pure function.
//
// Each drafted token is one more row. What a row adds to the step's time says the caller's cost
// function; what it brings is the probability that it and all drafted tokens before it come true.
// Tokens are added in order of that probability, over all sequences, and the number of them is kept
// with which the expected tokens per second are most; so on a machine where rows cost nearly a step
// of their own nothing is drafted, and a step that is full of other sequences' rows gets few.
//
// Threads    pure. Cost  O(longest drafts log sequences) and as many calls of step_cost.

#include <functional>
#include <span>
#include <vector>

namespace sheaf {

struct DraftCandidate {
  int longest = 0;  // tokens that the draft, the blocks and the request's end leave room for
  bool probe = false;  // gets one token whatever it costs
  // The probability that the first `length` >= 1 tokens all come true; falls with length.
  std::function<double(int length)> accepted;
};

struct DraftBudget {
  int tokens = 0;  // rows that may be added
  // Of a step with so many rows more, in any unit of time; rises with rows.
  std::function<double(int added_rows)> step_cost;
};

// By index of `candidates`; sequences = all that get at least one token in the step.
std::vector<int> PlanDrafts(std::span<const DraftCandidate> candidates, int sequences,
                            const DraftBudget& budget);

}  // namespace sheaf
