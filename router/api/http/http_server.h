#pragma once
// HttpServer: HTTP/1.1 over TCP or TLS for an HttpRouter: keep-alive, pipelining, chunked event
// streams.
//
// Pages      of other origins are refused unless allowed_origins has them (origin_policy.h).
// Answers    all have Date and X-Request-Id: the client's own, if it is harmless, else a made one.
// Bounds     every read and write has a time limit, every body, header and the number of
//            connections a size limit; a refused body is answered with 413 and read away, so that
//            the client sees the answer.
//            All bodies together have a budget (byte_budget.h), from their first byte until the
//            request is prepared; a body without room in it is refused with 503 before it is read.
//            Connections beyond the bound, or with descriptors nearly out, are told 503; when even
//            that costs too much they are closed at once.
// Clients    that leave while their reply is pending are noticed at once and the reply is
//            abandoned; those that only close their sending side get it (http_connection.h). Event
//            streams without news carry a comment every `ping_interval`.
// Threads    own network threads; instant routes run on them, all others on the PreparationPool.
// Routes     may be replaced while it runs, e.g. when the weights are loaded.
// Ownership  parts outlive the server. Destruction stops it (without patience). After Stop no route
//            is called, not even by what waits in the pool.

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/byte_budget.h"
#include "base/clock.h"
#include "network/tls/tls_identity.h"
#include "router/api/generation/preparation_pool.h"
#include "router/api/http/http_router.h"
#include "router/metrics/router_metrics.h"

namespace sheaf {

struct HttpServerOptions {
  std::string host = "127.0.0.1";
  uint16_t port = 0;  // 0: any free one
  int num_threads = 2;
  size_t max_connections = 16384;
  int descriptor_ceiling = 0;  // sockets from this number on are refused; 0: none is
  size_t max_header_bytes = 32 << 10;
  size_t max_body_bytes = 16 << 20;
  std::chrono::milliseconds idle_timeout{120'000};  // waiting for a request's first byte
  std::chrono::milliseconds head_timeout{30'000};   // from there to the end of its header
  std::chrono::milliseconds body_timeout{60'000};
  std::chrono::milliseconds write_timeout{10'000};  // without the client taking any byte
  std::chrono::milliseconds ping_interval{15'000};
  std::vector<std::string> allowed_origins{};  // of web pages; "*": all
  std::shared_ptr<TlsIdentity> tls = nullptr;  // null: plaintext
};

struct HttpServerParts {
  const HttpRouter& router;
  PreparationPool* pool;   // null: every route is instant
  RouterMetrics* metrics;  // null: connections are not counted
  const Clock& clock;
  std::function<uint64_t()> random;       // thread-safe; request names
  std::function<int64_t()> unix_seconds;  // thread-safe; Date
  ByteBudget* body_bytes = nullptr;       // of all connections; null: no bound
};

class HttpServer {
 public:
  // Errors: kUnavailable when the address cannot be bound (names it).
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const HttpServerOptions& options,
                                                           const HttpServerParts& parts);
  virtual ~HttpServer() = default;

  virtual uint16_t port() const = 0;
  // Requests that come from now on take these routes, which outlive the server as the first do.
  virtual void Use(const HttpRouter& router) = 0;
  // No new connections; replies under way may end until the patience is over, then they are
  // abandoned.
  virtual void Stop(std::chrono::milliseconds patience) = 0;
};

}  // namespace sheaf
