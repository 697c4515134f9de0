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
using WorkerId = Id<struct WorkerTag, int32_t>;  // an expert worker in its pool, 0-based
using InstanceId = Id<struct InstanceTag, uint64_t>;  // one life of a process, random; 0 = none
using LinkId = Id<struct LinkTag, uint64_t>;  // one life of a link, never used again; 0 = none
using StepId = Id<struct StepTag, uint64_t>;     // one forward pass over a batch
using SequenceId = Id<struct SequenceTag, uint64_t>;  // one running generation

// A routed expert of the model.
struct LayerExpert {
  LayerId layer;
  ExpertId expert;
  friend auto operator<=>(const LayerExpert&, const LayerExpert&) = default;
};

}  // namespace sheaf

template <typename Tag, typename T>
struct std::hash<sheaf::Id<Tag, T>> {
  size_t operator()(sheaf::Id<Tag, T> id) const { return std::hash<T>{}(id.value()); }
};
