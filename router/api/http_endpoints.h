#pragma once
// All HTTP endpoints of a router: every face that speaks HTTP, in one table.
//
// Ownership  `context` and `metrics` outlive the router.

#include "prometheus/collectable.h"
#include "router/api/generation/api_context.h"
#include "router/api/http/http_router.h"

namespace sheaf {

HttpRouter MakeHttpRouter(const ApiContext& context, const prometheus::Collectable& metrics);

}  // namespace sheaf
