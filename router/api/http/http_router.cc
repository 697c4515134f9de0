#include "router/api/http/http_router.h"

#include "router/api/http/http_errors.h"

namespace sheaf {
namespace {

bool Matches(const std::string& pattern, const std::string& path) {
  if (!pattern.ends_with("/*")) return pattern == path;
  const size_t prefix = pattern.size() - 1;  // the slash included
  return path.size() > prefix && path.compare(0, prefix, pattern, 0, prefix) == 0;
}

}  // namespace

const HttpRoute* HttpRouter::Find(const std::string& method, const std::string& path,
                                  HttpResponse* refusal) const {
  std::string allowed;
  for (const HttpRoute& route : routes_) {
    if (!Matches(route.path, path)) continue;
    if (route.method == method || (method == "HEAD" && route.method == "GET")) return &route;
    allowed += (allowed.empty() ? "" : ", ") + route.method;
  }
  if (allowed.empty()) {
    *refusal = ErrorResponse(404, "There is no " + path.substr(0, 256) + " here.");
  } else {
    *refusal = ErrorResponse(405, method + " is not possible here; allowed: " + allowed + ".");
    refusal->headers.emplace_back("Allow", allowed);
  }
  return nullptr;
}

}  // namespace sheaf
