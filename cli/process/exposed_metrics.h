#pragma once
// ExposedMetrics: what a process shows at /metrics: its registry, its process_* figures, and where
// asked for the aliases for tools made for vLLM (router/metrics/vllm_aliases.h).
//
// Threads    any. Ownership  borrows the registry.

#include <optional>
#include <utility>
#include <vector>

#include "cli/process/process_metrics.h"
#include "prometheus/collectable.h"
#include "prometheus/metric_family.h"
#include "router/metrics/vllm_aliases.h"

namespace sheaf {

class ExposedMetrics final : public prometheus::Collectable {
 public:
  // `vllm`: nullopt for no aliases.
  explicit ExposedMetrics(const prometheus::Collectable& registry,
                          std::optional<VllmFacts> vllm = std::nullopt)
      : registry_(registry), vllm_(std::move(vllm)) {}

  std::vector<prometheus::MetricFamily> Collect() const override {
    std::vector<prometheus::MetricFamily> families = registry_.Collect();
    if (vllm_) {
      std::vector<prometheus::MetricFamily> aliases = VllmAliases(families, *vllm_);
      for (auto& family : aliases) families.push_back(std::move(family));
    }
    for (auto& family : process_.Collect()) families.push_back(std::move(family));
    return families;
  }

 private:
  const prometheus::Collectable& registry_;
  const std::optional<VllmFacts> vllm_;
  const ProcessMetrics process_;
};

}  // namespace sheaf
