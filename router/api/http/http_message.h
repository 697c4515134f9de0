#pragma once
// What the HTTP server hands to an endpoint and what it gets back; no network types, so that
// endpoints and their tests need none.
//
// An endpoint answers at once (HttpResponse), later and perhaps in pieces (PendingReply), or says
// that the rest of its work is of the slow kind (GuidedWork).
// Threads    A PendingReply is used by one connection at a time; its wake function may be called
//            from any thread.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/byte_budget.h"
#include "base/clock.h"
#include "tracing/trace_context.h"

namespace sheaf {

using HttpFields = std::vector<std::pair<std::string, std::string>>;  // name, value

struct HttpRequest {
  std::string method;      // "GET"
  std::string path;        // decoded, without query and trailing slash: "/v1/models"
  std::string request_id;  // the client's X-Request-Id, else one made for it; never empty
  std::string fairness_key;  // fairness_key.h
  std::optional<TraceContext> trace = {};  // of traceparent and tracestate
  std::string body;          // may be taken by the handler
  TimePoint arrival;
  // What the body takes of the server's budget, for as long as something made of it is held.
  std::shared_ptr<ByteBudget::Lease> lease = nullptr;
  std::function<bool()> client_left = {};  // once true, for good; empty: never
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

using HttpFinalReply = std::variant<HttpResponse, std::unique_ptr<PendingReply>>;

// What is left to do for a reply and belongs into the PreparationPool's guided lane. Like a handler
// it is called at most once, and not after the server's Stop or for a client that has left.
struct GuidedWork {
  std::function<HttpFinalReply()> run;
  size_t bytes = 0;  // of the request
};

using HttpReply = std::variant<HttpResponse, std::unique_ptr<PendingReply>, GuidedWork>;

inline HttpReply ToReply(HttpFinalReply reply) {
  return std::visit([](auto&& kind) { return HttpReply(std::move(kind)); }, std::move(reply));
}

using HttpHandler = std::function<HttpReply(HttpRequest&)>;

}  // namespace sheaf
