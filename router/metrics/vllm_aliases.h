#pragma once
// VllmAliases: the router's figures once more under the names that gateways, autoscalers, load
// generators and dashboards made for vLLM read. Made at a scrape out of what was collected: nothing
// is counted twice.
//
// Labels     model_name (the first served name) and engine ("0"), as vLLM has them, beside a
//            figure's own. Series: a fixed number, about 60 and the buckets of 12 histograms.
// Differences where ours means something else than vLLM's: docs/metrics.md.
// Threads    pure.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "prometheus/metric_family.h"

namespace sheaf {

struct VllmFacts {
  std::string model_name = "";
  int64_t block_size = 16;  // tokens
  std::string cache_dtype = "auto";
  bool prefix_caching = true;
};

// `collected`: of a RouterMetrics' registry. A figure that is not in it gets no alias.
std::vector<prometheus::MetricFamily> VllmAliases(
    std::span<const prometheus::MetricFamily> collected, const VllmFacts& facts);

}  // namespace sheaf
