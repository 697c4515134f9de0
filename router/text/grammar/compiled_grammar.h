#pragma once
// What is behind CompiledGrammar: for this folder's .cc files.
//
// Threads    Immutable: matchers copy `start`.

#include <cstddef>

#include "router/text/rust/sheaf_text.h"

namespace sheaf {

class CompiledGrammar {
 public:
  // Takes `start`, a grammar at its beginning.
  CompiledGrammar(SheafGrammar* start, size_t vocab_size)
      : start_(start), vocab_size_(vocab_size) {}
  ~CompiledGrammar() { sheaf_grammar_free(start_); }
  CompiledGrammar(const CompiledGrammar&) = delete;
  CompiledGrammar& operator=(const CompiledGrammar&) = delete;

  const SheafGrammar* start() const { return start_; }
  size_t vocab_size() const { return vocab_size_; }

 private:
  SheafGrammar* const start_;
  const size_t vocab_size_;
};

}  // namespace sheaf
