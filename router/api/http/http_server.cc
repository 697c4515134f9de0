#include "router/api/http/http_server.h"

#include <pthread.h>

#include <atomic>
#include <map>
#include <optional>
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
// clang-format on

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/host_port.h"
#include "router/api/http/http_connection.h"
#include "router/api/http/http_errors.h"
#include "spdlog/spdlog.h"

namespace sheaf {
namespace {

namespace net = boost::asio;
using boost::system::error_code;
using net::ip::tcp;

// Connections beyond max_connections that may be told so at a time; more are closed at once.
constexpr int kMaxRefusals = 64;

class BeastHttpServer final : public HttpServer {
 public:
  BeastHttpServer(const HttpServerOptions& options, const HttpServerParts& parts)
      : options_(options), parts_(parts), router_(&parts.router), acceptor_(net::make_strand(io_)) {}

  ~BeastHttpServer() override { Stop(std::chrono::milliseconds(0)); }

  absl::Status Listen() {
    const std::string address = JoinHostPort(options_.host, options_.port);
    error_code ec;
    tcp::resolver resolver(io_);
    const auto found =
        resolver.resolve(WithoutBrackets(options_.host), std::to_string(options_.port),
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
    origins_.emplace(options_.allowed_origins, endpoint.address().is_loopback());
    shared_.emplace(HttpConnectionContext{options_, parts_, router_, *origins_, date_, stopping_, gate_});
    net::co_spawn(acceptor_.get_executor(), AcceptLoop(), net::detached);
    for (int i = 0; i < options_.num_threads; ++i) {
      threads_.emplace_back([this] { io_.run(); });
      pthread_setname_np(threads_.back().native_handle(), "sheaf-http");
    }
    return absl::OkStatus();
  }

  uint16_t port() const override { return port_; }

  void Use(const HttpRouter& router) override {
    router_.store(&router, std::memory_order_release);
  }

  void Stop(std::chrono::milliseconds patience) override {
    if (stopping_.exchange(true)) return;
    net::post(acceptor_.get_executor(), [this] {
      error_code ignored;
      acceptor_.close(ignored);
    });
    {
      absl::MutexLock lock(&mutex_);
      for (const auto& [key, weak] : connections_) HttpConnection::StopWaiting(weak, gate_);
      const absl::Time give_up = absl::Now() + absl::FromChrono(patience);
      while (!connections_.empty() && !all_closed_.WaitWithDeadline(&mutex_, give_up)) {
      }
    }
    gate_->Shut();
    io_.stop();
    for (std::thread& thread : threads_) thread.join();
    // What is left of the coroutines goes with io_, and abandons its replies.
  }

 private:
  // Counts a connection while its coroutine lives.
  class Registration {
   public:
    Registration(BeastHttpServer& server, const std::shared_ptr<HttpConnection>& connection)
        : server_(server) {
      absl::MutexLock lock(&server_.mutex_);
      key_ = server_.next_key_++;
      server_.connections_[key_] = connection;
      server_.CountConnection(1);
    }
    ~Registration() {
      absl::MutexLock lock(&server_.mutex_);
      server_.connections_.erase(key_);
      server_.CountConnection(-1);
      if (server_.connections_.empty()) server_.all_closed_.SignalAll();
    }
    Registration(const Registration&) = delete;

   private:
    BeastHttpServer& server_;
    uint64_t key_;
  };

  void CountConnection(int change) {
    if (parts_.metrics != nullptr) {
      parts_.metrics->ConnectionsChanged(RequestFace::kHttp, change);
    }
  }

  size_t ConnectionCount() {
    absl::MutexLock lock(&mutex_);
    return connections_.size();
  }

  net::awaitable<void> AcceptLoop() {
    net::steady_timer pause(acceptor_.get_executor());
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
      if (full && refusals_ >= kMaxRefusals) continue;
      auto connection = std::make_shared<HttpConnection>(std::move(socket), *shared_);
      const auto executor = connection->executor();
      if (full) {
        ++refusals_;
        net::co_spawn(executor, Refuse(std::move(connection)), net::detached);
      } else {
        // Registered before the next one is accepted, so that the bound is exact.
        auto registration = std::make_unique<Registration>(*this, connection);
        net::co_spawn(executor, Serve(std::move(connection), std::move(registration)),
                      net::detached);
      }
    }
  }

  // Holds the registration until the connection is gone, and with it the wish for its answers.
  static net::awaitable<void> Serve(std::shared_ptr<HttpConnection> connection,
                                    [[maybe_unused]] std::unique_ptr<Registration> registration) {
    co_await connection->Serve();
    connection.reset();
  }

  net::awaitable<void> Refuse(std::shared_ptr<HttpConnection> connection) {
    HttpResponse response = ErrorResponse(503, "Too many connections.");
    response.headers.emplace_back("Retry-After", "1");
    co_await connection->Refuse(std::move(response));
    --refusals_;
  }

  const HttpServerOptions options_;
  const HttpServerParts parts_;
  std::atomic<const HttpRouter*> router_;

  const std::shared_ptr<NetworkGate> gate_ = std::make_shared<NetworkGate>();
  std::atomic<bool> stopping_{false};
  std::atomic<int> refusals_{0};
  HttpDate date_;
  std::optional<OriginPolicy> origins_;  // when the address is known
  std::optional<HttpConnectionContext> shared_;
  absl::Mutex mutex_;
  absl::CondVar all_closed_;
  std::map<uint64_t, std::weak_ptr<HttpConnection>> connections_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_key_ ABSL_GUARDED_BY(mutex_) = 0;

  uint16_t port_ = 0;
  // Last but the threads: coroutines that it still holds at its end use everything above.
  net::io_context io_;
  tcp::acceptor acceptor_;
  std::vector<std::thread> threads_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const HttpServerOptions& options,
                                                              const HttpServerParts& parts) {
  auto server = std::make_unique<BeastHttpServer>(options, parts);
  absl::Status status = server->Listen();
  if (!status.ok()) return status;
  return server;
}

}  // namespace sheaf
