#pragma once
// OriginPolicy: which web pages may use the server, and that no other page can (CORS).
//
// A browser lets any page send some requests anywhere, localhost included, and only hides the
// answer from it: enough to start generations. So a request that says it comes from a page (Origin)
// is refused unless that page is the server's own or was allowed; and a POST whose type a page may
// send without asking is refused whoever sends it. Where the server listens on loopback alone, a
// page is its own only under a loopback name: any other could be a page whose name was bound to
// 127.0.0.1 a moment ago. Requests without Origin are not a page's and pass, whatever their Host.
//
// Threads    read-only after construction: any.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "router/api/http/http_head.h"
#include "router/api/http/http_message.h"

namespace sheaf {

// An origin as browsers write it: "https://ui.example.com", without the scheme's own port; "null".
// Nothing: it is none (a path, no host, ...).
std::optional<std::string> NormalOrigin(std::string_view text);

class OriginPolicy {
 public:
  // `allowed`: origins, or "*" for all; empty: the server's own pages only.
  OriginPolicy(const std::vector<std::string>& allowed, bool listens_on_loopback);

  // 403 or 415; nothing: it may be answered.
  std::optional<HttpResponse> Refuse(const HttpHead& head) const;
  // What every answer to `head` carries.
  HttpFields AnswerFields(const HttpHead& head) const;
  // What the answer to a preflight carries beside these. `methods`: of the path, "GET, HEAD".
  HttpFields PreflightFields(const HttpHead& head, const std::string& methods) const;

 private:
  bool IsAllowed(std::string_view origin) const;
  bool IsOwnPage(std::string_view origin, std::string_view host) const;

  bool all_ = false;
  std::vector<std::string> allowed_;  // normal
  const bool listens_on_loopback_;
};

}  // namespace sheaf
