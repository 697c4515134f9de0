#pragma once
// The JSON of GET /sheaf/v1/pool (docs/api.md lists its fields) from a picture and the figures that
// /metrics exposes. Pure.

#include <optional>
#include <string>
#include <vector>

#include "prometheus/metric_family.h"
#include "router/schedule/generation.h"
#include "router/ui/expert_map.h"
#include "router/ui/pool_picture.h"

namespace sheaf {

struct RouterPicture {
  std::string version;  // of the program
  std::string model;    // the name that requests use
  double uptime_seconds = 0;
  int max_model_len = 0;  // tokens
  enum class State { kLoading, kReady, kNotReady, kHangs };
  State state = State::kLoading;
  double progress = 0;  // of loading, [0, 1]
  EngineLoad load;
  std::optional<PoolPicture> pool;  // absent: the experts are not there yet
};

std::string PoolJson(const RouterPicture& router,
                     const std::vector<prometheus::MetricFamily>& figures);

}  // namespace sheaf
