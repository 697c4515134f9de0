#pragma once
// ExpertSet: a set of a model's experts as bits, for plans: whole sets are united, cut and counted
// word by word. ExpertGrid numbers the experts: index 0 is expert 0 of the first layer with
// experts.
//
// What travels is Holdings (exchange/wire/holdings.h), which knows dense layers too.
//
// Threads    values. Errors: an index outside the grid is the caller's mistake.
// Cost       92 layers of 120: 1.4 KB, 173 words an operation.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/ids.h"
#include "exchange/model_identity.h"
#include "exchange/wire/holdings.h"

namespace sheaf {

struct ExpertGrid {
  int num_layers = 0;  // decoder layers, dense ones included
  int first_moe_layer = 0;
  int num_experts = 0;  // a layer

  static ExpertGrid Of(const ModelIdentity& model) {
    return {model.num_layers, model.first_moe_layer, model.num_experts};
  }
  int moe_layers() const { return num_layers - first_moe_layer; }
  size_t size() const {
    return static_cast<size_t>(moe_layers()) * static_cast<size_t>(num_experts);
  }
  bool Inside(int layer, int expert) const {
    return layer >= first_moe_layer && layer < num_layers && expert >= 0 && expert < num_experts;
  }
  // Inside(layer, expert) holds.
  size_t Index(int layer, int expert) const {
    return static_cast<size_t>(layer - first_moe_layer) * static_cast<size_t>(num_experts) +
           static_cast<size_t>(expert);
  }
  int LayerOf(size_t index) const {
    return first_moe_layer + static_cast<int>(index / static_cast<size_t>(num_experts));
  }
  int ExpertOf(size_t index) const {
    return static_cast<int>(index % static_cast<size_t>(num_experts));
  }
};

class ExpertSet {
 public:
  ExpertSet() = default;
  explicit ExpertSet(size_t size) : words_((size + 63) / 64, 0) {}

  bool Has(size_t i) const { return ((words_[i / 64] >> (i % 64)) & 1) != 0; }
  void Add(size_t i) { words_[i / 64] |= uint64_t{1} << (i % 64); }
  void Remove(size_t i) { words_[i / 64] &= ~(uint64_t{1} << (i % 64)); }

  void AddAll(const ExpertSet& other) {
    for (size_t i = 0; i < words_.size(); ++i) words_[i] |= other.words_[i];
  }
  void RemoveAll(const ExpertSet& other) {
    for (size_t i = 0; i < words_.size(); ++i) words_[i] &= ~other.words_[i];
  }
  void KeepOnly(const ExpertSet& other) {
    for (size_t i = 0; i < words_.size(); ++i) words_[i] &= other.words_[i];
  }

  int64_t count() const {
    int64_t n = 0;
    for (const uint64_t word : words_) n += std::popcount(word);
    return n;
  }
  bool empty() const { return count() == 0; }

  // f(index), ascending.
  template <typename F>
  void ForEach(F&& f) const {
    for (size_t i = 0; i < words_.size(); ++i) {
      for (uint64_t word = words_[i]; word != 0; word &= word - 1) {
        f(i * 64 + static_cast<size_t>(std::countr_zero(word)));
      }
    }
  }

  friend bool operator==(const ExpertSet&, const ExpertSet&) = default;

 private:
  std::vector<uint64_t> words_;
};

inline ExpertSet Minus(ExpertSet a, const ExpertSet& b) {
  a.RemoveAll(b);
  return a;
}
inline ExpertSet Both(ExpertSet a, const ExpertSet& b) {
  a.KeepOnly(b);
  return a;
}

}  // namespace sheaf
