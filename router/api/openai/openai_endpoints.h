#pragma once
// The OpenAI API's endpoints, as routes.
//
// Ownership  `context` outlives the routes.

#include <vector>

#include "router/api/generation/api_context.h"
#include "router/api/http/http_router.h"

namespace sheaf {

// POST /v1/completions, /v1/chat/completions.
std::vector<HttpRoute> GenerationRoutes(const ApiContext& context);
// POST /tokenize, /detokenize.
std::vector<HttpRoute> TokenRoutes(const ApiContext& context);
// POST /v1/completions/render, /v1/chat/completions/render.
std::vector<HttpRoute> RenderRoutes(const ApiContext& context);
// GET /v1/models, /v1/models/{id}.
std::vector<HttpRoute> ModelRoutes(const ApiContext& context);

}  // namespace sheaf
