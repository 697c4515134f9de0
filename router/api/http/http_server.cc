#include "router/api/http/http_server.h"

#include <sys/socket.h>

#include <atomic>
#include <cctype>
#include <cerrno>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>

// clang-format off
#include <utility>  // before Asio: its 1.74 uses std::exchange without it
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
// clang-format on

#include "absl/strings/str_format.h"
#include "router/api/http/http_errors.h"
#include "spdlog/spdlog.h"

namespace sheaf {
namespace {

namespace net = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using boost::system::error_code;
using net::ip::tcp;
using Parser = http::request_parser<http::string_body>;

constexpr size_t kWriteBytes = 64 << 10;
constexpr size_t kDrainBytes = 256 << 20;
constexpr std::chrono::seconds kDrainTime{5};

// Shuts the way from other threads (step results, prepared replies) into the network loop when that
// ends.
struct Gate {
  std::mutex mutex;
  bool open = true;  // guarded by mutex
};

// One client connection. Everything but `gate` belongs to its strand.
struct Connection : std::enable_shared_from_this<Connection> {
  Connection(tcp::socket socket, std::shared_ptr<Gate> server_gate)
      : stream(std::move(socket)), wakeup(stream.get_executor()), gate(std::move(server_gate)) {}

  void Signal() {
    signaled = true;
    wakeup.cancel();
  }

  // From any thread: `change` runs on the strand, then whoever waits there goes on.
  static void Post(const std::weak_ptr<Connection>& weak, const std::shared_ptr<Gate>& gate,
                   std::function<void(Connection&)> change) {
    std::lock_guard lock(gate->mutex);
    if (!gate->open) return;
    std::shared_ptr<Connection> connection = weak.lock();
    if (!connection) return;
    const auto executor = connection->stream.get_executor();
    net::post(executor, [connection = std::move(connection), change = std::move(change)] {
      if (change) change(*connection);
      connection->Signal();
    });
  }

  beast::tcp_stream stream;
  beast::flat_buffer buffer;
  net::steady_timer wakeup;
  const std::shared_ptr<Gate> gate;
  bool signaled = false;  // something new for the coroutine
  bool gone = false;      // the client closed its end
  bool idle = false;      // between requests
  uint64_t request =
      0;  // number of the request in work: a late answer to an earlier one is dropped
  std::optional<HttpReply> reply;
};

std::string PercentDecoded(std::string_view text) {
  const auto digit = [](char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
  };
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && digit(text[i + 1]) >= 0 &&
        digit(text[i + 2]) >= 0) {
      decoded += static_cast<char>(digit(text[i + 1]) * 16 + digit(text[i + 2]));
      i += 2;
    } else {
      decoded += text[i];
    }
  }
  return decoded;
}

// A client's own name for its request, if it is harmless in a header, an id and a log line.
std::string RequestId(const Parser::value_type& message) {
  const auto value = message["X-Request-Id"];
  std::string id(value.data(), value.size());
  if (id.size() > 128) return {};
  for (const char c : id) {
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '-' && c != '_' && c != '.' &&
        c != ':')
      return {};
  }
  return id;
}

HttpRequest ToRequest(Parser& parser, const Clock& clock) {
  auto& message = parser.get();
  const auto method = message.method_string();
  const auto target = message.target();
  HttpRequest request;
  request.method.assign(method.data(), method.size());
  request.path =
      PercentDecoded(std::string_view(target.data(), target.size()).substr(0, target.find('?')));
  request.request_id = RequestId(message);
  request.body = std::move(message.body());
  request.arrival = clock.Now();
  return request;
}

struct HeadOptions {
  bool keep_alive;
  bool chunked;  // else a Content-Length, or for old clients the end of the connection
  bool has_length;
  std::string request_id;  // echoed, unless empty
};

// For what ends the connection.
const HeadOptions kClosing{false, false, true, {}};

std::string Head(const HttpResponse& response, const HeadOptions& options) {
  const auto reason = http::obsolete_reason(static_cast<http::status>(response.status));
  std::string head =
      absl::StrFormat("HTTP/1.1 %d %s\r\nServer: sheaf\r\nContent-Type: %s\r\n", response.status,
                      std::string(reason.data(), reason.size()), response.content_type);
  if (options.has_length) head += absl::StrFormat("Content-Length: %d\r\n", response.body.size());
  if (options.chunked) head += "Transfer-Encoding: chunked\r\n";
  if (!options.request_id.empty()) head += "X-Request-Id: " + options.request_id + "\r\n";
  for (const auto& [name, value] : response.headers) head += name + ": " + value + "\r\n";
  head += options.keep_alive ? "Connection: keep-alive\r\n\r\n" : "Connection: close\r\n\r\n";
  return head;
}

class BeastHttpServer final : public HttpServer {
 public:
  BeastHttpServer(const HttpServerOptions& options, const HttpRouter& router, PreparationPool& pool,
                  RouterMetrics& metrics, const Clock& clock)
      : options_(options),
        router_(router),
        pool_(pool),
        metrics_(metrics),
        clock_(clock),
        acceptor_(io_) {}

  ~BeastHttpServer() override { Stop(std::chrono::milliseconds(0)); }

  absl::Status Listen() {
    const std::string address = absl::StrFormat("%s:%d", options_.host, options_.port);
    error_code ec;
    tcp::resolver resolver(io_);
    const auto found =
        resolver.resolve(options_.host, std::to_string(options_.port),
                         tcp::resolver::passive | tcp::resolver::numeric_service, ec);
    const auto failed = [&](const char* what) {
      return absl::UnavailableError(
          absl::StrFormat("HTTP: cannot %s %s: %s", what, address, ec.message()));
    };
    if (ec || found.empty()) return failed("resolve");
    const tcp::endpoint endpoint = found.begin()->endpoint();
    acceptor_.open(endpoint.protocol(), ec);
    if (!ec) acceptor_.set_option(net::socket_base::reuse_address(true), ec);
    if (!ec) acceptor_.bind(endpoint, ec);
    if (ec) return failed("bind");
    acceptor_.listen(net::socket_base::max_listen_connections, ec);
    if (ec) return failed("listen on");
    port_ = acceptor_.local_endpoint(ec).port();
    net::co_spawn(io_, AcceptLoop(), net::detached);
    for (int i = 0; i < options_.num_threads; ++i) threads_.emplace_back([this] { io_.run(); });
    return absl::OkStatus();
  }

  uint16_t port() const override { return port_; }

  void Stop(std::chrono::milliseconds patience) override {
    if (stopping_.exchange(true)) return;
    net::post(io_, [this] {
      error_code ignored;
      acceptor_.close(ignored);
    });
    {
      std::unique_lock lock(mutex_);
      for (const auto& [key, weak] : connections_) {
        Connection::Post(weak, gate_, [](Connection& connection) {
          if (connection.idle) connection.stream.cancel();
        });
      }
      all_closed_.wait_for(lock, patience, [this] { return connections_.empty(); });
    }
    {
      std::lock_guard lock(gate_->mutex);
      gate_->open = false;
    }
    io_.stop();
    for (std::thread& thread : threads_) thread.join();
    // What is left of the coroutines goes with io_, and abandons its replies.
  }

 private:
  // Counts a connection while its coroutine lives.
  class Registration {
   public:
    Registration(BeastHttpServer& server, const std::shared_ptr<Connection>& connection)
        : server_(server), key_(connection.get()) {
      std::lock_guard lock(server_.mutex_);
      server_.connections_[key_] = connection;
      server_.metrics_.ConnectionsChanged(RequestFace::kHttp, 1);
    }
    ~Registration() {
      std::lock_guard lock(server_.mutex_);
      server_.connections_.erase(key_);
      server_.metrics_.ConnectionsChanged(RequestFace::kHttp, -1);
      if (server_.connections_.empty()) server_.all_closed_.notify_all();
    }
    Registration(const Registration&) = delete;

   private:
    BeastHttpServer& server_;
    Connection* const key_;
  };

  size_t ConnectionCount() {
    std::lock_guard lock(mutex_);
    return connections_.size();
  }

  net::awaitable<void> AcceptLoop() {
    net::steady_timer pause(io_);
    error_code ec;
    while (!stopping_) {
      tcp::socket socket(net::make_strand(io_));
      co_await acceptor_.async_accept(socket, net::redirect_error(net::use_awaitable, ec));
      if (stopping_ || ec == net::error::operation_aborted) co_return;
      if (ec) {
        // Out of file descriptors, most likely: accepting again at once would only spin.
        spdlog::warn("HTTP: accept: {}", ec.message());
        pause.expires_after(std::chrono::milliseconds(100));
        co_await pause.async_wait(net::redirect_error(net::use_awaitable, ec));
        continue;
      }
      error_code ignored;
      socket.set_option(tcp::no_delay(true), ignored);
      const bool full = ConnectionCount() >= options_.max_connections;
      const auto executor = socket.get_executor();
      auto connection = std::make_shared<Connection>(std::move(socket), gate_);
      if (full) {
        net::co_spawn(executor, Refuse(std::move(connection)), net::detached);
      } else {
        net::co_spawn(executor, Serve(std::move(connection)), net::detached);
      }
    }
  }

  net::awaitable<void> Refuse(std::shared_ptr<Connection> connection) {
    HttpResponse response = ErrorResponse(503, "Too many connections.");
    response.headers.emplace_back("Retry-After", "1");
    co_await Respond(*connection, response, kClosing, false);
  }

  net::awaitable<void> Serve(std::shared_ptr<Connection> connection) {
    const Registration registration(*this, connection);
    bool keep_alive = true;
    while (keep_alive && !stopping_) keep_alive = co_await ServeOne(*connection);
    error_code ignored;
    connection->stream.socket().shutdown(tcp::socket::shutdown_both, ignored);
  }

  // Reads and answers one request; false when the connection is over.
  net::awaitable<bool> ServeOne(Connection& connection) {
    Parser parser;
    parser.header_limit(static_cast<uint32_t>(options_.max_header_bytes));
    parser.body_limit(options_.max_body_bytes);
    error_code ec;
    connection.stream.expires_after(options_.idle_timeout);
    connection.idle = true;
    co_await http::async_read_header(connection.stream, connection.buffer, parser,
                                     net::redirect_error(net::use_awaitable, ec));
    connection.idle = false;
    if (!ec) {
      const auto& message = parser.get();
      if (beast::iequals(message[http::field::expect], "100-continue")) {
        if (!co_await Write(connection, "HTTP/1.1 100 Continue\r\n\r\n")) co_return false;
      }
      connection.stream.expires_after(options_.body_timeout);
      co_await http::async_read(connection.stream, connection.buffer, parser,
                                net::redirect_error(net::use_awaitable, ec));
    }
    if (ec) {
      co_await RefuseBytes(connection, ec);
      co_return false;
    }
    const bool keep_alive = parser.keep_alive() && !stopping_;
    const bool chunks = parser.get().version() >= 11;
    const HttpRequest request = ToRequest(parser, clock_);
    co_return co_await Answer(connection, request, keep_alive, chunks);
  }

  // What is not HTTP, or too large.
  net::awaitable<void> RefuseBytes(Connection& connection, error_code ec) {
    HttpResponse response;
    if (ec == http::error::body_limit) {
      response = ErrorResponse(
          413, absl::StrFormat("The body has more than %d bytes.", options_.max_body_bytes));
    } else if (ec == http::error::header_limit) {
      response = ErrorResponse(
          431, absl::StrFormat("The header has more than %d bytes.", options_.max_header_bytes));
    } else if (ec == beast::error::timeout || ec == http::error::end_of_stream ||
               ec.category() != http::make_error_code(http::error::bad_method).category()) {
      co_return;  // nobody is there, or nothing was asked
    } else {
      response = ErrorResponse(400, "Not an HTTP request: " + ec.message() + ".");
    }
    co_await Respond(connection, response, kClosing, false);
    // Closing with unread bytes would reset the connection and take the answer with it.
    error_code ignored;
    connection.stream.socket().shutdown(tcp::socket::shutdown_send, ignored);
    connection.stream.expires_after(kDrainTime);
    std::string sink(kWriteBytes, '\0');
    for (size_t drained = 0; drained < kDrainBytes;) {
      const size_t bytes = co_await connection.stream.async_read_some(
          net::buffer(sink), net::redirect_error(net::use_awaitable, ignored));
      if (ignored) break;
      drained += bytes;
    }
  }

  net::awaitable<bool> Answer(Connection& connection, const HttpRequest& request, bool keep_alive,
                              bool chunks) {
    const bool head_only = request.method == "HEAD";
    HttpResponse refusal;
    const HttpRoute* route = router_.Find(request.method, request.path, &refusal);
    const HeadOptions whole{keep_alive, false, true, request.request_id};
    if (route == nullptr) co_return co_await Respond(connection, refusal, whole, head_only);
    std::optional<HttpReply> reply;
    Watch(connection);
    if (route->instant) {
      reply = route->handler(request);
    } else if (!SubmitToPool(connection, *route, request)) {
      refusal = ErrorResponse(503, "Too many requests are being prepared.");
      refusal.headers.emplace_back("Retry-After", "1");
      reply = std::move(refusal);
    } else {
      while (!connection.reply && !connection.gone) co_await WaitForSignal(connection);
      reply = std::exchange(connection.reply, std::nullopt);
    }
    ++connection.request;
    bool alive = !connection.gone && reply.has_value();
    if (alive) {
      if (const auto* response = std::get_if<HttpResponse>(&*reply)) {
        alive = co_await Respond(connection, *response, whole, head_only);
      } else {
        alive = co_await Follow(connection, *std::get<std::unique_ptr<PendingReply>>(*reply), whole,
                                chunks);
      }
    }
    error_code ignored;
    connection.stream.socket().cancel(ignored);  // the watch
    co_return alive&& keep_alive;
  }

  bool SubmitToPool(Connection& connection, const HttpRoute& route, const HttpRequest& request) {
    return pool_.TrySubmit([weak = connection.weak_from_this(), gate = connection.gate,
                            number = connection.request, &route, request] {
      auto reply = std::make_shared<HttpReply>(route.handler(request));
      Connection::Post(weak, gate, [reply, number](Connection& target) {
        if (target.request == number) target.reply = std::move(*reply);
      });
    });
  }

  // Sends what a pending reply has until it ends; false when the connection is over.
  net::awaitable<bool> Follow(Connection& connection, PendingReply& reply, const HeadOptions& whole,
                              bool chunks) {
    reply.SetWake([weak = connection.weak_from_this(), gate = connection.gate] {
      Connection::Post(weak, gate, nullptr);
    });
    bool begun = false;
    const bool keep_alive = whole.keep_alive && chunks;
    const auto head = [&] {
      HttpResponse response;
      response.content_type = "text/event-stream; charset=utf-8";
      response.headers = {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}};
      return Head(response, {keep_alive, chunks, false, whole.request_id});
    };
    for (;;) {
      PendingReply::Progress progress = reply.Poll(begun);
      if (progress.response)
        co_return co_await Respond(connection, *progress.response, whole, false);
      std::string out = std::move(progress.stream);
      // A quiet stream: the comment keeps proxies and clients from giving up on it.
      if (out.empty() && !progress.ended) {
        if (co_await WaitForSignal(connection) || connection.gone) {
          if (!connection.gone) continue;
          reply.Abandon();
          co_return false;
        }
        if (!reply.streams()) continue;
        out = ": waiting\n\n";
      }
      if (chunks && !out.empty()) out = absl::StrFormat("%x\r\n", out.size()) + out + "\r\n";
      if (progress.ended && chunks) out += "0\r\n\r\n";
      if (!std::exchange(begun, true)) out = head() + out;
      if (!co_await Write(connection, out)) {
        reply.Abandon();
        co_return false;
      }
      if (progress.ended) co_return keep_alive;
    }
  }

  // Until Signal, the client's end, or the ping interval (false).
  net::awaitable<bool> WaitForSignal(Connection& connection) {
    if (!connection.signaled && !connection.gone) {
      error_code ignored;
      connection.wakeup.expires_after(options_.ping_interval);
      co_await connection.wakeup.async_wait(net::redirect_error(net::use_awaitable, ignored));
    }
    co_return std::exchange(connection.signaled, false);
  }

  // Notices that the client closes its end while nothing is read from it.
  void Watch(Connection& connection) {
    connection.stream.socket().async_wait(
        tcp::socket::wait_read, [shared = connection.shared_from_this()](error_code ec) {
          if (ec) return;
          char byte = 0;
          const ssize_t got =
              recv(shared->stream.socket().native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
          // Bytes of a next request are no reason to look on: the socket would stay readable.
          if (got > 0 || (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))) return;
          shared->gone = true;
          shared->Signal();
        });
  }

  net::awaitable<bool> Respond(Connection& connection, const HttpResponse& response,
                               const HeadOptions& options, bool head_only) {
    std::string bytes = Head(response, options);
    if (!head_only) bytes += response.body;
    const bool written = co_await Write(connection, bytes);
    co_return written&& options.keep_alive;
  }

  net::awaitable<bool> Write(Connection& connection, std::string_view bytes) {
    error_code ec;
    while (!bytes.empty()) {
      const std::string_view piece = bytes.substr(0, kWriteBytes);
      connection.stream.expires_after(options_.write_timeout);
      co_await net::async_write(connection.stream, net::buffer(piece.data(), piece.size()),
                                net::redirect_error(net::use_awaitable, ec));
      if (ec) co_return false;
      bytes.remove_prefix(piece.size());
    }
    connection.stream.expires_never();
    co_return true;
  }

  const HttpServerOptions options_;
  const HttpRouter& router_;
  PreparationPool& pool_;
  RouterMetrics& metrics_;
  const Clock& clock_;

  const std::shared_ptr<Gate> gate_ = std::make_shared<Gate>();
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::condition_variable all_closed_;
  std::map<Connection*, std::weak_ptr<Connection>> connections_;  // guarded by mutex_

  uint16_t port_ = 0;
  // Last but the threads: coroutines that it still holds at its end use everything above.
  net::io_context io_;
  tcp::acceptor acceptor_;
  std::vector<std::thread> threads_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const HttpServerOptions& options,
                                                              const HttpRouter& router,
                                                              PreparationPool& pool,
                                                              RouterMetrics& metrics,
                                                              const Clock& clock) {
  auto server = std::make_unique<BeastHttpServer>(options, router, pool, metrics, clock);
  absl::Status status = server->Listen();
  if (!status.ok()) return status;
  return server;
}

}  // namespace sheaf
