#pragma once
// HttpConnection: one client's connection: reads requests, has them answered, writes the answers.
//
// Half-closed  a client that shuts down its sending side still gets its answer. Whether it is there
//            or has left looks the same at first, so it is sent something that a client ignores
//            (`100 Continue`, or a comment in an event stream): one that has left resets the
//            connection, and its reply is abandoned. Clients of HTTP/1.0 cannot be asked.
// Closing    the client's bytes are read away until it closes too, within bounds: unread ones would
//            reset the connection and take the last answer with it.
// TLS        a handshake comes first, within head_timeout; a client without a good certificate is
//            closed and reported. What a client sends ahead stays in the socket.
// Writing    ends when a client takes no byte for write_timeout, or 64 KiB last longer than
//            kSlowestPiece.
// Idle       a connection that waits for a request holds no buffer.
// Threads    everything runs on the socket's strand, but for Post and what it is made of.
// Ownership  a coroutine of Serve or Refuse must hold the connection; `shared` outlives the loop.

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>

// clang-format off
#include <utility>  // before Asio: its 1.74 uses std::exchange without it
#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
// clang-format on

#include "router/api/generation/preparation_pool.h"
#include "router/api/http/http_head.h"
#include "router/api/http/http_router.h"
#include "router/api/http/http_server.h"
#include "router/api/http/http_stream.h"
#include "router/api/http/http_tls.h"
#include "router/api/http/network_gate.h"
#include "router/api/http/origin_policy.h"
#include "router/api/http/response_head.h"
#include "router/api/http/strand_signal.h"

namespace sheaf {

// What the connections of one server have in common.
struct HttpConnectionContext {
  const HttpServerOptions& options;
  const HttpServerParts& parts;
  const std::atomic<const HttpRouter*>& router;  // of the requests that come from now on
  const OriginPolicy& origins;
  HttpDate& date;
  const std::atomic<bool>& stopping;
  const std::shared_ptr<NetworkGate> gate;
  HttpTls* const tls;  // null: plaintext

  HttpSizeLimits limits() const { return {options.max_header_bytes, options.max_body_bytes}; }
};

class HttpConnection : public std::enable_shared_from_this<HttpConnection> {
 public:
  // `context` (null: plaintext) is not needed any longer than this call.
  HttpConnection(boost::asio::ip::tcp::socket socket, boost::asio::ssl::context* context,
                 const HttpConnectionContext& shared);

  auto executor() { return stream_.get_executor(); }

  // Until the client has enough or the server stops.
  boost::asio::awaitable<void> Serve();
  // Answers without having read anything.
  boost::asio::awaitable<void> Refuse(HttpResponse response);

  // From any thread: ends the wait for a next request, if there is one.
  static void StopWaiting(const std::weak_ptr<HttpConnection>& connection,
                          const std::shared_ptr<NetworkGate>& gate);

 private:
  template <typename T>
  using awaitable = boost::asio::awaitable<T>;

  // From any thread: `change` runs on the strand, then whoever waits there goes on.
  static void Post(const std::weak_ptr<HttpConnection>& connection,
                   const std::shared_ptr<NetworkGate>& gate,
                   std::function<void(HttpConnection&)> change);

  // The TLS handshake, where there is one.
  awaitable<bool> Greet();
  // These are false when the connection is over.
  awaitable<bool> ServeOne();
  awaitable<bool> Answer(const HttpRoute& route, std::shared_ptr<HttpRequest> request,
                         const HttpFraming& framing);
  // The body, within the budget of all bodies; nothing: it was refused, or the client has left.
  awaitable<std::shared_ptr<ByteBudget::Lease>> ReadBody(HttpRequestParser& parser,
                                                         const HttpFraming& framing);
  awaitable<bool> Follow(PendingReply& reply, HttpFraming framing);
  awaitable<bool> Respond(const HttpResponse& response, const HttpFraming& framing);
  awaitable<bool> Write(std::string_view bytes);
  // What the socket's buffer takes of it at once.
  size_t SendNow(std::string_view bytes);

  awaitable<std::optional<HeadScanner::State>> ReadHead(HeadScanner& scanner);
  // False: nothing came in time, or the server stops.
  awaitable<bool> WaitForFirstByte();
  // Answers and ends the connection so that the client sees the answer even if it still sends.
  awaitable<void> RespondAndDrain(const HttpResponse& response, HttpFraming framing);
  awaitable<void> Drain();
  // Until there is news (true) or the ping interval.
  awaitable<bool> WaitForSignal();
  // Until the pool's reply is there or the client is gone.
  awaitable<void> WaitForReply();
  // Whether a client that closed its end is to be asked if it still reads; once a request.
  bool MustAsk();
  // The question before the head of an answer is out. False when the connection is over.
  awaitable<bool> Ask();

  // What an OPTIONS request is told, or why there is no route; nothing: *route is set.
  std::optional<HttpResponse> AnswerWithoutRoute(const HttpHead& head,
                                                 const HttpRoute** route) const;
  // `work` runs in the pool, and its reply comes back to this request. False: the lane is full.
  bool Submit(PreparationLane lane, size_t bytes, std::function<HttpReply()> work);
  // The reply; nothing when the client has left.
  awaitable<std::optional<HttpFinalReply>> Prepare(const HttpRoute& route,
                                                   std::shared_ptr<HttpRequest> request);
  std::string MadeRequestId() const;
  std::string Date() const;

  // Notices that the client closes its end or is gone while its request is answered; what it sends
  // ahead is kept, up to a bound.
  void Watch();
  void Listen();
  // With TLS: nothing is taken out of the socket; a client's end behind unread bytes is looked for.
  void LookForEnd(uint64_t number);
  void WatchForReset();
  void EndWatch();

  const HttpConnectionContext& shared_;
  HttpStream stream_;
  boost::beast::flat_buffer buffer_;
  StrandSignal news_;  // for the coroutine
  bool half_closed_ = false;  // the client closed its end, and may still read
  bool may_ask_ = false;      // it understands interim answers
  bool asked_ = false;        // whether it reads
  bool gone_ = false;         // it is not there any more
  bool finished_ = false;     // nothing of it is left to be read
  bool idle_ = false;         // reads what no answer depends on
  uint64_t watch_ = 0;     // number of the watch: an earlier one's news are dropped
  uint64_t request_ =
      0;  // number of the request in work: a late answer to an earlier one is dropped
  std::optional<HttpReply> reply_;
};

}  // namespace sheaf
