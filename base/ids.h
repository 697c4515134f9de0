#pragma once
// Strong integer types for the things that must not be mixed up: a layer is not an expert.
//
// Id<Tag, T> compares, hashes, prints through value(), and does no arithmetic. Token ids are plain
// int32_t: they are data (model input and output), stored in bulk.

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace sheaf {

template <typename Tag, typename T>
class Id {
 public:
  using ValueType = T;
  constexpr Id() = default;
  constexpr explicit Id(T value) : value_(value) {}
  constexpr T value() const { return value_; }
  friend constexpr auto operator<=>(Id, Id) = default;

 private:
  T value_ = 0;
};

using TokenId = int32_t;

using LayerId = Id<struct LayerTag, int32_t>;    // decoder layer, 0-based, as in tensor names
using ExpertId = Id<struct ExpertTag, int32_t>;  // routed expert within a layer, 0-based
using WorkerId = Id<struct WorkerTag, int32_t>;  // slot of an expert worker, 0-based
using Epoch = Id<struct EpochTag, uint64_t>;     // number of one membership + placement; 0 = none
using StepId = Id<struct StepTag, uint64_t>;     // one forward pass over a batch
using SequenceId = Id<struct SequenceTag, uint64_t>;  // one running generation

}  // namespace sheaf

template <typename Tag, typename T>
struct std::hash<sheaf::Id<Tag, T>> {
  size_t operator()(sheaf::Id<Tag, T> id) const { return std::hash<T>{}(id.value()); }
};
