#include "router/api/http_endpoints.h"

#include <utility>
#include <vector>

#include "router/api/openai/openai_endpoints.h"
#include "router/api/status/status_endpoints.h"

namespace sheaf {

HttpRouter MakeHttpRouter(const ApiContext& context, const prometheus::Collectable& metrics,
                          std::vector<HttpRoute> more) {
  std::vector<HttpRoute> routes = StatusRoutes(context, metrics);
  for (auto&& some : {GenerationRoutes(context), RenderRoutes(context), TokenRoutes(context),
                      ModelRoutes(context), std::move(more)}) {
    routes.insert(routes.end(), some.begin(), some.end());
  }
  return HttpRouter(std::move(routes));
}

}  // namespace sheaf
