#pragma once
// What the HTTP server hands to an endpoint and what it gets back; no network types, so that
// endpoints and their tests need none.
//
// An endpoint answers at once (HttpResponse) or later and perhaps in pieces (PendingReply).
// Threads    A PendingReply is used by one connection at a time; its wake function may be called
//            from any thread.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/clock.h"

namespace sheaf {

using HttpFields = std::vector<std::pair<std::string, std::string>>;  // name, value

struct HttpRequest {
  std::string method;      // "GET"
  std::string path;        // decoded, without query and trailing slash: "/v1/models"
  std::string request_id;  // the client's X-Request-Id, else one made for it; never empty
  std::string body;
  TimePoint arrival;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  HttpFields headers;  // further ones
};

class PendingReply {
 public:
  struct Progress {
    std::optional<HttpResponse>
        response;        // the whole answer; only before any `stream` text, ends the reply
    std::string stream;  // what can be sent of a text/event-stream now
    bool ended = false;
  };

  virtual ~PendingReply() = default;
  // `wake` says that Poll has something new; called at once if it has already.
  virtual void SetWake(std::function<void()> wake) = 0;
  // `begun`: the head of an event stream is out, so errors must go into the stream.
  virtual Progress Poll(bool begun) = 0;
  // An event stream, which may be kept alive by comments.
  virtual bool streams() const = 0;
  // The client is gone. Nothing is called afterwards.
  virtual void Abandon() = 0;
};

using HttpReply = std::variant<HttpResponse, std::unique_ptr<PendingReply>>;
using HttpHandler = std::function<HttpReply(const HttpRequest&)>;

}  // namespace sheaf
