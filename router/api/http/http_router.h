#pragma once
// HttpRouter: which endpoint answers a method and path.
//
// Threads    filled before use, then read from any thread.
// Errors     404 for an unknown path, 405 with Allow for a known path with another method.

#include <string>
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

  // The route; or nothing and *refusal is filled. HEAD takes the GET route.
  const HttpRoute* Find(const std::string& method, const std::string& path,
                        HttpResponse* refusal) const;

 private:
  const std::vector<HttpRoute> routes_;
};

}  // namespace sheaf
