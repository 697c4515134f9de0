#pragma once
// ExpertTable: which live links hold which expert, as the workers announced it themselves. Routing
// follows this and nothing else.
//
// Threads    one at a time. Cost: HoldersOf is a span into the table; SetHoldings rebuilds what
//            changed, O(layers * experts).
// Errors     a layer or expert outside the model has no holders.

#include <array>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "exchange/wire/holdings.h"

namespace sheaf {

class ExpertTable {
 public:
  ExpertTable(int num_layers, int first_moe_layer, int num_experts);

  int num_layers() const { return num_layers_; }
  int first_moe_layer() const { return first_moe_layer_; }
  int num_experts() const { return num_experts_; }

  void SetHoldings(WorkerId worker, const Holdings& holdings);
  void Remove(WorkerId worker);

  std::span<const WorkerId> HoldersOf(LayerId layer, ExpertId expert) const {  // ascending
    if (layer.value() < first_moe_layer_ || layer.value() >= num_layers_ || expert.value() < 0 ||
        expert.value() >= num_experts_) {
      return {};
    }
    return holders_[Index(layer, expert)];
  }
  bool Holds(WorkerId worker, LayerId layer, ExpertId expert) const;

  // counts[n] = (layer, expert) pairs with n live holders; the last counts that many or more.
  using Coverage = std::array<int64_t, 4>;
  Coverage coverage() const { return coverage_; }
  bool complete() const { return coverage_[0] == 0; }
  // At most `limit` pairs that nobody holds, ascending.
  std::vector<LayerExpert> Orphans(size_t limit) const;
  // What each worker announced last, ascending.
  using Announced = std::vector<std::pair<WorkerId, Holdings>>;
  const Announced& announced() const { return known_; }
  // Grows with every change.
  uint64_t version() const { return version_; }

 private:
  size_t Index(LayerId layer, ExpertId expert) const {
    return size_t(layer.value() - first_moe_layer_) * size_t(num_experts_) + size_t(expert.value());
  }

  int num_layers_;
  int first_moe_layer_;
  int num_experts_;
  std::vector<std::vector<WorkerId>> holders_;
  Announced known_;
  Coverage coverage_{};
  uint64_t version_ = 0;
};

}  // namespace sheaf
