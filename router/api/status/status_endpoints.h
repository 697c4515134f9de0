#pragma once
// How the process is, for probes and operators, as routes: GET /health, GET and POST /ping,
// GET /version, GET /metrics. All of them are instant.
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
