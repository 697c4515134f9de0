#pragma once
// All HTTP endpoints of a router: every face that speaks HTTP, in one table.
//
// Ownership  `context` and `metrics` outlive the router.

#include <vector>

#include "prometheus/collectable.h"
#include "router/api/generation/api_context.h"
#include "router/api/http/http_router.h"

namespace sheaf {

// `more`: routes beside these.
HttpRouter MakeHttpRouter(const ApiContext& context, const prometheus::Collectable& metrics,
                          std::vector<HttpRoute> more = {});

}  // namespace sheaf
