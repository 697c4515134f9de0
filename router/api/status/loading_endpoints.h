#pragma once
// What a router answers over HTTP while it loads its weights. All of it is instant.
//
//   GET /live, /livez, /health/live     200
//   GET /ready, /readyz, /health/ready, 503 {"status": "loading", "progress": 0.42}, the share of
//       /health, GET and POST /ping     the weights' bytes that are there
//   GET /metrics                        as later
//   routes of `more`                    as they say
//   anything else                       503 with Retry-After and the usual error object
//
// Ownership  `metrics` and what `progress` borrows outlive the router.

#include <functional>
#include <vector>

#include "prometheus/collectable.h"
#include "router/api/http/http_router.h"

namespace sheaf {

// `progress`: 0 to 1, from any thread.
HttpRouter MakeLoadingRouter(std::function<double()> progress,
                             const prometheus::Collectable& metrics,
                             std::vector<HttpRoute> more = {});

}  // namespace sheaf
