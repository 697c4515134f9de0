#pragma once
// All HTTP endpoints of a router, as routes.
//
// Ownership  `context` and `registry` outlive the routes.

#include <vector>

#include "prometheus/registry.h"
#include "router/api/api_context.h"
#include "router/api/http_router.h"

namespace sheaf {

// POST /v1/completions, /v1/chat/completions.
std::vector<HttpRoute> GenerationRoutes(const ApiContext& context);
// POST /tokenize, /detokenize.
std::vector<HttpRoute> TokenRoutes(const ApiContext& context);
// GET /v1/models, /v1/models/{id}, /health, /ping, /version, /metrics.
std::vector<HttpRoute> ServerRoutes(const ApiContext& context,
                                    const prometheus::Collectable& metrics);

HttpRouter MakeHttpRouter(const ApiContext& context, const prometheus::Collectable& metrics);

}  // namespace sheaf
