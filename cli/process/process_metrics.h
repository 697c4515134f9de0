#pragma once
// ProcessMetrics: the figures that every client library gives of its process (process_*), and of
// the log. Read at each scrape out of /proc/self; what cannot be read is left out.
//
// Threads    any. Cost  about 100 us and an open directory.

#include <vector>

#include "prometheus/collectable.h"

namespace sheaf {

class ProcessMetrics final : public prometheus::Collectable {
 public:
  std::vector<prometheus::MetricFamily> Collect() const override;
};

}  // namespace sheaf
