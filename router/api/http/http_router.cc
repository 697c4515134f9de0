#include "router/api/http/http_router.h"

#include <set>

#include "absl/strings/str_join.h"
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
  for (const HttpRoute& route : routes_) {
    if (!Matches(route.path, path)) continue;
    if (route.method == method || (method == "HEAD" && route.method == "GET")) return &route;
  }
  if (otherwise_) return &*otherwise_;
  const std::string allowed = AllowedMethods(path);
  if (allowed.empty()) {
    *refusal = ErrorResponse(404, "There is no " + path.substr(0, 256) + " here.");
  } else {
    *refusal = ErrorResponse(
        405, method.substr(0, 256) + " is not possible here; allowed: " + allowed + ".");
    refusal->headers.emplace_back("Allow", allowed);
  }
  return nullptr;
}

std::string HttpRouter::AllowedMethods(const std::string& path) const {
  std::set<std::string> methods;
  for (const HttpRoute& route : routes_) {
    if (path != "*" && !Matches(route.path, path)) continue;
    methods.insert(route.method);
    if (route.method == "GET") methods.insert("HEAD");
  }
  if (methods.empty()) return {};
  methods.insert("OPTIONS");
  return absl::StrJoin(methods, ", ");
}

}  // namespace sheaf
