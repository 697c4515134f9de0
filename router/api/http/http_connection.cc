#include "router/api/http/http_connection.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <chrono>

// clang-format off
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/http/read.hpp>
// clang-format on

#include "absl/strings/str_format.h"
#include "router/api/http/http_errors.h"

namespace sheaf {
namespace {

namespace net = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using boost::system::error_code;
using net::ip::tcp;

constexpr size_t kReadBytes = 8 << 10;
// What the kernel takes of an answer before its client reads; the rest shows that it does not.
constexpr int kUnsentInKernel = 16 << 10;

std::string_view View(const beast::flat_buffer& buffer) {
  const auto bytes = buffer.data();
  return {static_cast<const char*>(bytes.data()), bytes.size()};
}

HttpResponse TooBusy() {
  HttpResponse refusal = ErrorResponse(503, "Too many requests are being prepared.");
  refusal.headers.emplace_back("Retry-After", "1");
  return refusal;
}

HttpResponse TooManyBytes() {
  HttpResponse refusal = ErrorResponse(503, "Too many bytes of requests are being prepared.");
  refusal.headers.emplace_back("Retry-After", "1");
  return refusal;
}

bool IsHttpError(error_code ec) {
  return ec.category() == http::make_error_code(http::error::bad_method).category() &&
         ec != http::error::end_of_stream && ec != http::error::partial_message;
}

}  // namespace

HttpConnection::HttpConnection(tcp::socket socket, net::ssl::context* context,
                               const HttpConnectionContext& shared)
    : shared_(shared), stream_(std::move(socket), context), news_(stream_.get_executor()) {
  (void)setsockopt(stream_.socket().native_handle(), IPPROTO_TCP, TCP_NOTSENT_LOWAT,
                   &kUnsentInKernel, sizeof(kUnsentInKernel));
}

void HttpConnection::Post(const std::weak_ptr<HttpConnection>& weak,
                          const std::shared_ptr<NetworkGate>& gate,
                          std::function<void(HttpConnection&)> change) {
  gate->IfOpen([&] {
    std::shared_ptr<HttpConnection> connection = weak.lock();
    if (!connection) return;
    const auto executor = connection->stream_.get_executor();
    net::post(executor, [connection = std::move(connection), change = std::move(change)] {
      if (change) change(*connection);
      connection->news_.Raise();
    });
  });
}

void HttpConnection::StopWaiting(const std::weak_ptr<HttpConnection>& connection,
                                 const std::shared_ptr<NetworkGate>& gate) {
  Post(connection, gate, [](HttpConnection& target) {
    if (target.idle_) target.stream_.tcp().cancel();
  });
}

std::string HttpConnection::MadeRequestId() const {
  return absl::StrFormat("%016x%016x", shared_.parts.random(), shared_.parts.random());
}

std::string HttpConnection::Date() const { return shared_.date.At(shared_.parts.unix_seconds()); }

net::awaitable<void> HttpConnection::Serve() {
  bool keep_alive = co_await Greet();
  while (keep_alive && !shared_.stopping) keep_alive = co_await ServeOne();
  if (!finished_) co_await Drain();
  error_code ignored;
  stream_.socket().shutdown(tcp::socket::shutdown_both, ignored);
}

net::awaitable<void> HttpConnection::Refuse(HttpResponse response) {
  HttpFraming framing;
  framing.request_id = MadeRequestId();
  const bool greeted = co_await Greet();
  if (greeted) co_await RespondAndDrain(response, std::move(framing));
}

net::awaitable<bool> HttpConnection::WaitForFirstByte() {
  buffer_.shrink_to_fit();
  net::steady_timer limit(stream_.get_executor(), shared_.options.idle_timeout);
  limit.async_wait([weak = weak_from_this()](error_code cancelled) {
    const auto self = weak.lock();
    if (!cancelled && self && self->idle_) self->stream_.tcp().cancel();
  });
  error_code ec;
  idle_ = true;
  co_await stream_.socket().async_wait(tcp::socket::wait_read,
                                       net::redirect_error(net::use_awaitable, ec));
  idle_ = false;
  co_return !ec;
}

// The scanner's last state; nothing when the client left or was too slow.
net::awaitable<std::optional<HeadScanner::State>> HttpConnection::ReadHead(HeadScanner& scanner) {
  if (stream_.tls() != nullptr) {
    // Some of the next request may be within TLS already: only reading tells.
    buffer_.shrink_to_fit();
    stream_.tcp().expires_after(buffer_.size() == 0 ? shared_.options.idle_timeout
                                                    : shared_.options.head_timeout);
  } else {
    if (buffer_.size() == 0 && !co_await WaitForFirstByte()) {
      finished_ = true;
      co_return std::nullopt;
    }
    stream_.tcp().expires_after(shared_.options.head_timeout);
  }
  for (;;) {
    const HeadScanner::State state = scanner.Scan(View(buffer_));
    if (state != HeadScanner::State::kMore) co_return state;
    if (buffer_.size() - scanner.begin() > shared_.options.max_header_bytes) co_return state;
    error_code ec;
    idle_ = true;
    const size_t bytes = co_await stream_.async_read_some(
        buffer_.prepare(kReadBytes), net::redirect_error(net::use_awaitable, ec));
    idle_ = false;
    if (ec) {
      finished_ = true;
      co_return std::nullopt;
    }
    if (buffer_.size() == 0 && stream_.tls() != nullptr) {
      stream_.tcp().expires_after(shared_.options.head_timeout);
    }
    buffer_.commit(bytes);
  }
}

net::awaitable<bool> HttpConnection::ServeOne() {
  HttpFraming framing;
  framing.request_id = MadeRequestId();
  HeadScanner scanner;
  const std::optional<HeadScanner::State> state = co_await ReadHead(scanner);
  if (!state) co_return false;
  if (*state != HeadScanner::State::kComplete) {
    const HttpResponse refusal =
        *state == HeadScanner::State::kMore
            ? RefusalOf(http::error::header_limit, shared_.limits())
            : ErrorResponse(400, absl::StrFormat("Not an HTTP request: %s.", scanner.problem()));
    co_await RespondAndDrain(refusal, std::move(framing));
    co_return false;
  }
  HttpRequestParser parser;
  std::variant<HttpHead, HttpResponse> parsed =
      ParseHead(View(buffer_).substr(scanner.begin(), scanner.end() - scanner.begin()),
                shared_.limits(), parser);
  buffer_.consume(scanner.end());
  if (const auto* refusal = std::get_if<HttpResponse>(&parsed)) {
    co_await RespondAndDrain(*refusal, std::move(framing));
    co_return false;
  }
  const HttpHead& head = std::get<HttpHead>(parsed);
  if (!head.request_id.empty()) framing.request_id = head.request_id;
  framing.fields = shared_.origins.AnswerFields(head);
  framing.head_only = head.method == "HEAD";
  framing.chunks = head.chunks;

  const HttpRoute* route = nullptr;
  const std::optional<HttpResponse> answer = AnswerWithoutRoute(head, &route);
  if (head.expects_continue && !parser.is_done()) {
    if (answer) {  // the client may or may not send the body that it asks about
      co_await RespondAndDrain(*answer, std::move(framing));
      co_return false;
    }
    if (!co_await Write("HTTP/1.1 100 Continue\r\n\r\n")) co_return false;
  }
  std::shared_ptr<ByteBudget::Lease> lease = co_await ReadBody(parser, framing);
  if (!lease) co_return false;
  framing.keep_alive = head.keep_alive && !shared_.stopping;
  if (answer) co_return co_await Respond(*answer, framing);
  auto request = std::make_shared<HttpRequest>();
  request->method = head.method;
  request->path = head.path;
  request->request_id = framing.request_id;
  request->fairness_key = head.fairness_key;
  request->trace = head.trace;
  request->body = std::move(parser.get().body());
  request->arrival = shared_.parts.clock.Now();
  request->lease = std::move(lease);
  request->client_left = [weak = weak_from_this()] { return weak.expired(); };
  co_return co_await Answer(*route, std::move(request), framing);
}

net::awaitable<std::shared_ptr<ByteBudget::Lease>> HttpConnection::ReadBody(
    HttpRequestParser& parser, const HttpFraming& framing) {
  auto lease = std::make_shared<ByteBudget::Lease>();
  if (ByteBudget* const budget = shared_.parts.body_bytes; budget != nullptr) {
    std::optional<ByteBudget::Lease> taken =
        budget->TryTake(static_cast<size_t>(parser.content_length().value_or(0)));
    if (!taken) {
      co_await RespondAndDrain(TooManyBytes(), framing);
      co_return nullptr;
    }
    *lease = *std::move(taken);
  }
  error_code ec;
  stream_.tcp().expires_after(shared_.options.body_timeout);
  parser.eager(true);
  while (!parser.is_done()) {
    co_await http::async_read_some(stream_, buffer_, parser,
                                   net::redirect_error(net::use_awaitable, ec));
    if (ec) {
      if (IsHttpError(ec)) co_await RespondAndDrain(RefusalOf(ec, shared_.limits()), framing);
      co_return nullptr;
    }
    // Of a chunked body the length is not known before.
    if (!lease->TryGrowTo(parser.get().body().size())) {
      co_await RespondAndDrain(TooManyBytes(), framing);
      co_return nullptr;
    }
  }
  co_return lease;
}

std::optional<HttpResponse> HttpConnection::AnswerWithoutRoute(const HttpHead& head,
                                                               const HttpRoute** route) const {
  if (auto refusal = shared_.origins.Refuse(head)) return refusal;
  const HttpRouter& router = *shared_.router.load(std::memory_order_acquire);
  const std::string allowed =
      head.method == "OPTIONS" ? router.AllowedMethods(head.path) : std::string();
  if (!allowed.empty()) {
    HttpResponse options;
    options.status = 204;
    options.headers = shared_.origins.PreflightFields(head, allowed);
    options.headers.emplace_back("Allow", allowed);
    return options;
  }
  HttpResponse refusal;
  *route = router.Find(head.method, head.path, &refusal);
  if (*route == nullptr) return refusal;
  return std::nullopt;
}

net::awaitable<bool> HttpConnection::Answer(const HttpRoute& route,
                                            std::shared_ptr<HttpRequest> request,
                                            const HttpFraming& framing) {
  may_ask_ = framing.chunks;
  Watch();
  const std::optional<HttpFinalReply> reply = co_await Prepare(route, std::move(request));
  ++request_;
  bool alive = !gone_ && reply.has_value();
  if (alive) {
    if (const auto* response = std::get_if<HttpResponse>(&*reply)) {
      alive = co_await Respond(*response, framing);
    } else {
      alive = co_await Follow(*std::get<std::unique_ptr<PendingReply>>(*reply), framing);
    }
  }
  EndWatch();
  co_return alive;
}

net::awaitable<std::optional<HttpFinalReply>> HttpConnection::Prepare(
    const HttpRoute& route, std::shared_ptr<HttpRequest> request) {
  std::optional<HttpReply> reply;
  if (route.instant || shared_.parts.pool == nullptr) {
    reply = route.handler(*request);
  } else {
    PreparationLane lane = PreparationLane::kOrdinary;
    size_t bytes = request->body.size();
    // The request goes with the work, and with it its body.
    std::function<HttpReply()> work = [&route, request = std::move(request)] {
      return route.handler(*request);
    };
    for (;;) {
      if (!Submit(lane, bytes, std::move(work))) co_return TooBusy();
      co_await WaitForReply();
      if (gone_) co_return std::nullopt;
      reply = std::exchange(reply_, std::nullopt);
      auto* rest = std::get_if<GuidedWork>(&*reply);
      if (rest == nullptr) break;
      lane = PreparationLane::kGuided;
      bytes = rest->bytes;
      work = [run = std::move(rest->run)] { return ToReply(run()); };
    }
  }
  if (auto* response = std::get_if<HttpResponse>(&*reply)) co_return std::move(*response);
  co_return std::move(std::get<std::unique_ptr<PendingReply>>(*reply));
}

bool HttpConnection::Submit(PreparationLane lane, size_t bytes, std::function<HttpReply()> work) {
  auto task = [weak = weak_from_this(), gate = shared_.gate, number = request_,
               work = std::move(work)] {
    if (weak.expired()) return;
    gate->Handle([&] {
      auto reply = std::make_shared<HttpReply>(work());
      Post(weak, gate, [reply, number](HttpConnection& target) {
        if (target.request_ == number) target.reply_ = std::move(*reply);
      });
    });
  };
  return shared_.parts.pool->TrySubmit(lane, std::move(task), bytes);
}

// Sends what a pending reply has until it ends.
net::awaitable<bool> HttpConnection::Follow(PendingReply& reply, HttpFraming framing) {
  reply.SetWake([weak = weak_from_this(), gate = shared_.gate] { Post(weak, gate, nullptr); });
  bool begun = false;
  HttpFraming pieces = framing;
  pieces.keep_alive = framing.keep_alive && framing.chunks;
  pieces.has_length = false;
  const auto head = [&] {
    HttpResponse response;
    response.content_type = "text/event-stream; charset=utf-8";
    response.headers = {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}};
    return ResponseHead(response, pieces, Date());
  };
  for (;;) {
    PendingReply::Progress progress = reply.Poll(begun);
    if (progress.response) co_return co_await Respond(*progress.response, framing);
    std::string out = std::move(progress.stream);
    // A quiet stream: the comment keeps proxies and clients from giving up on it.
    if (out.empty() && !progress.ended) {
      if (!MustAsk()) {
        const bool news = co_await WaitForSignal();
        if (gone_) {
          reply.Abandon();
          co_return false;
        }
        if (news || !reply.streams()) continue;
      } else if (!begun) {
        if (co_await Ask()) continue;
        reply.Abandon();
        co_return false;
      }
      out = ": waiting\n\n";
    }
    if (pieces.chunks && !out.empty()) out = absl::StrFormat("%x\r\n", out.size()) + out + "\r\n";
    if (progress.ended && pieces.chunks) out += "0\r\n\r\n";
    if (!std::exchange(begun, true)) out = head() + out;
    if (!co_await Write(out)) {
      reply.Abandon();
      co_return false;
    }
    if (progress.ended) co_return pieces.keep_alive;
  }
}

}  // namespace sheaf
