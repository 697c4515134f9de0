#pragma once
// ModuleRegex: the regular expressions that quantization configs match module names with, in
// Python's spelling.
//
// Literals, ., classes, \d \w \s and their opposites, groups, |, * + ? {m,n} (lazy or not), ^ $ \b,
// lookahead. Not: backreferences, lookbehind, flags. An expression is run as a set of states, so
// that time is its size times the text's and no expression needs memory beyond its own.
//
// Threads    const methods from any thread.
// Errors     Compile: nothing for what is not understood, or larger than kMaxInstructions once its
//            counted repeats are written out.

#include <bitset>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace sheaf {

class ModuleRegex {
 public:
  static constexpr size_t kMaxInstructions = 2000;

  static std::optional<ModuleRegex> Compile(std::string_view expression);

  bool Matches(std::string_view text) const;   // from the start of the text on: Python's re.match
  bool Searches(std::string_view text) const;  // anywhere in it: re.search

  // Shared with the parser alone.
  enum class Op : uint8_t {
    kByte,       // one byte of sets[a], then the next instruction
    kSplit,      // continue at +a and at +b
    kJump,       // continue at +a
    kTextStart,  // ^
    kTextEnd,    // $
    kWordEdge,   // \b; a = 1: \B
    kLook,       // what follows matches from here on (b = 1: does not); continue at +a
    kMatch
  };
  struct Instruction {
    Op op = Op::kMatch;
    int a = 0;
    int b = 0;
  };
  using ByteSet = std::bitset<256>;

 private:
  class Run;
  std::vector<Instruction> program_;
  std::vector<ByteSet> sets_;
};

}  // namespace sheaf
