#pragma once
// The pool as JSON over HTTP, for the page at `/`, `sheaf top` and whoever else looks. Read-only.
//
//   GET /sheaf/v1/pool          the router, its load, figures and links; pool_json.h
//   GET /sheaf/v1/pool/experts  who holds which expert, and its load; expert_map.h. 503 while the
//                               experts are not there yet
//
// Both answer also while weights load, and both give the same bytes for half a second (the map: a
// second), so that many who look cost no more than one.
//
// Ownership  what `parts` borrows outlives the routes.
// Threads    any. Cost: instant; at most a collection of the metrics each half second.

#include <functional>
#include <optional>
#include <vector>

#include "prometheus/collectable.h"
#include "router/api/generation/api_context.h"
#include "router/api/http/http_router.h"
#include "router/ui/expert_map.h"
#include "router/ui/pool_picture.h"

namespace sheaf {

struct PoolRoutesParts {
  const ApiContext& context;
  const prometheus::Collectable& metrics;
  // Nothing: the experts are not there yet. From any thread.
  std::function<std::optional<PoolPicture>()> pool;
  std::function<std::optional<ExpertMap>()> experts;
  std::function<double()> progress;  // of loading; 1: all is loaded
};

std::vector<HttpRoute> PoolRoutes(const PoolRoutesParts& parts);

}  // namespace sheaf
