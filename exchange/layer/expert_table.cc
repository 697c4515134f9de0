#include "exchange/layer/expert_table.h"

#include <algorithm>

namespace sheaf {

ExpertTable::ExpertTable(int num_layers, int first_moe_layer, int num_experts)
    : num_layers_(num_layers), first_moe_layer_(first_moe_layer), num_experts_(num_experts) {
  holders_.resize(size_t(std::max(0, num_layers - first_moe_layer)) * size_t(num_experts));
  coverage_[0] = static_cast<int64_t>(holders_.size());
}

void ExpertTable::SetHoldings(WorkerId worker, const Holdings& holdings) {
  auto known = std::lower_bound(known_.begin(), known_.end(), worker,
                                [](const auto& entry, WorkerId id) { return entry.first < id; });
  if (known == known_.end() || known->first != worker) {
    known = known_.insert(known, {worker, Holdings(num_layers_, num_experts_)});
  }
  const auto bucket = [this](size_t holders) -> int64_t& {
    return coverage_[std::min(holders, coverage_.size() - 1)];
  };
  const Holdings& before = known->second;
  for (int layer = first_moe_layer_; layer < num_layers_; ++layer) {
    for (int expert = 0; expert < num_experts_; ++expert) {
      const bool had = before.Has(LayerId(layer), ExpertId(expert));
      const bool has = holdings.Has(LayerId(layer), ExpertId(expert));
      if (had == has) continue;
      std::vector<WorkerId>& holders = holders_[Index(LayerId(layer), ExpertId(expert))];
      --bucket(holders.size());
      const auto at = std::lower_bound(holders.begin(), holders.end(), worker);
      if (has) {
        holders.insert(at, worker);
      } else {
        holders.erase(at);
      }
      ++bucket(holders.size());
    }
  }
  known->second = holdings;
  ++version_;
}

void ExpertTable::Remove(WorkerId worker) {
  const auto known =
      std::find_if(known_.begin(), known_.end(), [&](const auto& e) { return e.first == worker; });
  if (known == known_.end()) return;
  SetHoldings(worker, Holdings(num_layers_, num_experts_));
  known_.erase(known);
}

bool ExpertTable::Holds(WorkerId worker, LayerId layer, ExpertId expert) const {
  const std::span<const WorkerId> holders = HoldersOf(layer, expert);
  return std::binary_search(holders.begin(), holders.end(), worker);
}

std::vector<LayerExpert> ExpertTable::Orphans(size_t limit) const {
  std::vector<LayerExpert> orphans;
  if (coverage_[0] == 0) return orphans;
  for (size_t i = 0; i < holders_.size() && orphans.size() < limit; ++i) {
    if (!holders_[i].empty()) continue;
    orphans.push_back({LayerId(first_moe_layer_ + static_cast<int>(i / size_t(num_experts_))),
                       ExpertId(static_cast<int>(i % size_t(num_experts_)))});
  }
  return orphans;
}

}  // namespace sheaf
