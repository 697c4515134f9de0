#pragma once
// GrammarCompiler turns a GrammarSpec into a CompiledGrammar, which GrammarMatcher runs.
//
// What is asked for is guaranteed or refused: a keyword that cannot be enforced is an error that
// names it, never ignored.
//
// Ownership  The tokenizer outlives the compiler, every grammar and every matcher. Grammars are
//            shared between the cache and their users.
// Threads    Every method from any number of threads. Compiling is work for the pool, not for the
//            thread that runs the steps.
// Errors     kInvalidArgument names the place: the path in the schema ("$.properties.a.minItems"),
//            the line of a Lark grammar, or the offset in a regular expression.
// Cost       Bounded whatever the text: below a second and 64 MiB a grammar. A cached one: a hash
//            of its text. Create: about 0.3 s at 150,000 tokens.

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "router/text/grammar/grammar_spec.h"
#include "router/text/tokenizer.h"

namespace sheaf {

class CompiledGrammar;

struct GrammarCacheLimits {
  size_t max_grammars = 256;
  size_t max_bytes = size_t{256} << 20;  // estimated
};

class GrammarCompiler {
 public:
  // Masks cover the ids 0 .. `vocab_size` - 1: the rows of the model's output, which may be more
  // than the tokenizer has.
  static absl::StatusOr<std::unique_ptr<GrammarCompiler>> Create(
      const Tokenizer& tokenizer, size_t vocab_size, const GrammarCacheLimits& limits = {});
  ~GrammarCompiler();
  GrammarCompiler(const GrammarCompiler&) = delete;
  GrammarCompiler& operator=(const GrammarCompiler&) = delete;

  absl::StatusOr<std::shared_ptr<const CompiledGrammar>> Compile(const GrammarSpec& spec);

  size_t vocab_size() const;

 private:
  struct Impl;
  explicit GrammarCompiler(std::unique_ptr<Impl> impl);

  const std::unique_ptr<Impl> impl_;
};

}  // namespace sheaf
