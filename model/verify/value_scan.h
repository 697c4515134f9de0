#pragma once
// What the values of one tensor are, gathered a piece at a time: ranges of floats, histograms of
// 4-bit codes, the groups of a g_idx.
//
// Pieces come in order and end at whole elements; each is aligned to 8 bytes.
// Threads    one object a thread.
// Cost       about the speed of memory for 16-bit floats, 2 GB/s a core for codes.

#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>

#include "model/safetensors.h"

namespace sheaf {

struct FloatFacts {
  uint64_t count = 0;
  uint64_t not_finite = 0;  // NaN and Inf
  uint64_t zeros = 0;
  uint64_t negatives = 0;   // below zero
  uint64_t subnormals = 0;
  double min = std::numeric_limits<double>::infinity();  // of the finite ones
  double max = -std::numeric_limits<double>::infinity();
  std::optional<uint64_t> first_not_finite;  // its element

  void Add(const FloatFacts& other);  // first_not_finite stays
};

bool IsFloat(TensorDtype dtype);

class FloatScan {
 public:
  explicit FloatScan(TensorDtype dtype) : dtype_(dtype) {}  // IsFloat
  void Add(std::span<const uint8_t> piece);
  const FloatFacts& facts() const { return facts_; }

 private:
  const TensorDtype dtype_;
  FloatFacts facts_;
};

struct CodeFacts {
  std::array<uint64_t, 16> counts{};  // of each nibble
  uint64_t words = 0;
  uint32_t first_word = 0;
  bool all_words_equal = true;
  // The longest run of equal words: its first word's index, length and value.
  uint64_t run_begin = 0, run_length = 0;
  uint32_t run_word = 0;

  // The one nibble that there is, if there is only one.
  std::optional<int> OnlyCode() const;
};

class CodeScan {
 public:
  void Add(std::span<const uint8_t> piece);  // words of 32 bits
  const CodeFacts& facts() const { return facts_; }

 private:
  CodeFacts facts_;
  uint64_t present_begin_ = 0;
  uint32_t present_word_ = 0;
};

struct GroupIndexFacts {
  bool all_zero = true;
  bool in_order = true;  // never falls
  // An entry that names no group: its position and value.
  std::optional<std::pair<uint64_t, int32_t>> first_bad;
};

class GroupIndexScan {
 public:
  explicit GroupIndexScan(int groups) : groups_(groups) {}
  void Add(std::span<const uint8_t> piece);  // int32
  const GroupIndexFacts& facts() const { return facts_; }

 private:
  const int groups_;
  uint64_t position_ = 0;
  int32_t last_ = 0;
  GroupIndexFacts facts_;
};

}  // namespace sheaf
