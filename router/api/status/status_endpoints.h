#pragma once
// How the process is, for probes and operators, as routes. All of them are instant.
//
//   GET /live, /livez, /health/live     200 while steps progress, 503 when the engine hangs: the
//                                       process must be started anew. A lost worker is no reason.
//   GET /ready, /readyz, /health/ready  200 when requests would be run, 503 else: send them to
//                                       another router for now
//   GET /health                         the same question as /ready, without a body
//   GET, POST /ping                     as /health
//   GET /load                           {"server_load": running + queued, "running", "queued"}
//   GET /version, GET /metrics
//   POST /reset_prefix_cache            200: requests from now on are computed from their first
//                                       token; those that run are not touched
//
// /live and /ready say why not in a JSON body.
//
// Ownership  `context` and `metrics` outlive the routes.

#include <vector>

#include "prometheus/collectable.h"
#include "router/api/generation/api_context.h"
#include "router/api/http/http_router.h"

namespace sheaf {

std::vector<HttpRoute> StatusRoutes(const ApiContext& context,
                                    const prometheus::Collectable& metrics);

}  // namespace sheaf
