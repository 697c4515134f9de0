#pragma once
// HttpRouter: which endpoint answers a method and path.
//
// Threads    filled before use, then read from any thread.
// Errors     404 for an unknown path, 405 with Allow for a known path with another method; or for
//            both the route `otherwise`, where one is given.
// Methods    HEAD takes the GET route; OPTIONS is possible everywhere and answered by the server.

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "router/api/http/http_message.h"

namespace sheaf {

struct HttpRoute {
  std::string method;
  std::string path;      // exact; or ending in "/*": anything after it
  bool instant = false;  // answers in microseconds: may run on a network thread (health checks must
                         // never queue)
  HttpHandler handler;
};

class HttpRouter {
 public:
  explicit HttpRouter(std::vector<HttpRoute> routes) : routes_(std::move(routes)) {}
  HttpRouter(std::vector<HttpRoute> routes, HttpRoute otherwise)
      : routes_(std::move(routes)), otherwise_(std::move(otherwise)) {}

  // The route; or nothing and *refusal is filled.
  const HttpRoute* Find(const std::string& method, const std::string& path,
                        HttpResponse* refusal) const;
  // "GET, HEAD, OPTIONS"; empty: there is no such path. "*": what is possible somewhere.
  std::string AllowedMethods(const std::string& path) const;

 private:
  const std::vector<HttpRoute> routes_;
  const std::optional<HttpRoute> otherwise_;
};

}  // namespace sheaf
