#pragma once
// OutputGrammar: the texts that an answer may be. What the guide (output_guide.h) needs of one;
// matcher_grammar.h puts a compiled grammar behind it, tests a toy.
//
// Stop tokens (the model's end-of-text ids, a request's own) are no part of a grammar: accepting()
// says that one may come, finished() that nothing else can; the latter may come out only when a
// mask has been computed.
//
// Ownership  a grammar is immutable and shared; a state holds on to what it needs of it.
// Threads    OutputGrammar: any. OutputGrammarState: one at a time.
// Errors     Accept: kInvalidArgument a token that may not come next. A status of a state ends the
//            sequence that it belongs to, and no other.

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/ids.h"

namespace sheaf {

// Where one sequence is in the grammar. Everything is a function of the tokens accepted so far.
class OutputGrammarState {
 public:
  virtual ~OutputGrammarState() = default;
  // Bit i % 32 of mask[i / 32]: token i may come next. The mask holds the model's vocabulary and
  // comes with any content.
  virtual absl::Status ComputeMask(std::span<uint32_t> mask) = 0;
  virtual absl::Status Accept(TokenId token) = 0;
  virtual bool accepting() const = 0;
  virtual bool finished() const = 0;
  // Tokens that spell what must come next, empty where there is a choice. To be accepted in order.
  virtual std::vector<TokenId> ForcedTokens() = 0;
};

class OutputGrammar {
 public:
  virtual ~OutputGrammar() = default;
  virtual absl::StatusOr<std::unique_ptr<OutputGrammarState>> Start() const = 0;
};

}  // namespace sheaf
