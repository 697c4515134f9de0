#include "router/api/http/http_server.h"

#include <pthread.h>

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <optional>
#include <thread>

// clang-format off
#include <utility>  // before Asio: its 1.74 uses std::exchange without it
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/strand.hpp>
// clang-format on

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/log_limit.h"
#include "base/status.h"
#include "network/connection_acceptor.h"
#include "router/api/http/http_connection.h"
#include "router/api/http/http_errors.h"
#include "spdlog/spdlog.h"

namespace sheaf {
namespace {

namespace net = boost::asio;
using boost::system::error_code;
using net::ip::tcp;

// Connections beyond max_connections that may be told so at a time; more are closed at once.
constexpr size_t kMaxRefusals = 64;
constexpr size_t kCrowd = 1000;              // connections
constexpr size_t kConnectionBytes = 8 << 10;  // about

tcp FamilyOf(int socket) {
  sockaddr_storage address{};
  socklen_t length = sizeof(address);
  (void)getsockname(socket, reinterpret_cast<sockaddr*>(&address), &length);
  return address.ss_family == AF_INET6 ? tcp::v6() : tcp::v4();
}

class BeastHttpServer final : public HttpServer {
 public:
  BeastHttpServer(const HttpServerOptions& options, const HttpServerParts& parts)
      : options_(options), parts_(parts), router_(&parts.router) {
    if (options.tls != nullptr) tls_.emplace(options.tls);
  }

  ~BeastHttpServer() override { Stop(std::chrono::milliseconds(0)); }

  absl::Status Listen() {
    SHEAF_ASSIGN_OR_RETURN(
        acceptor_, ConnectionAcceptor::Listen({.name = "HTTP",
                                               .host = options_.host,
                                               .port = options_.port,
                                               .descriptor_ceiling = options_.descriptor_ceiling}));
    origins_.emplace(options_.allowed_origins, acceptor_->on_loopback());
    shared_.emplace(
        HttpConnectionContext{options_, parts_, router_, *origins_, date_, stopping_, gate_,
                                           tls_ ? &*tls_ : nullptr});
    for (int i = 0; i < options_.num_threads; ++i) {
      threads_.emplace_back([this] {
        pthread_setname_np(pthread_self(), "sheaf-http");
        const auto until_stop = net::make_work_guard(io_);
        io_.run();
      });
    }
    acceptor_->Start({[this](int socket, bool crowded) { Connected(socket, crowded); },
                      [this] { CountRefusal(); }});
    return absl::OkStatus();
  }

  uint16_t port() const override { return acceptor_->port(); }

  void Use(const HttpRouter& router) override {
    router_.store(&router, std::memory_order_release);
  }

  void Stop(std::chrono::milliseconds patience) override {
    if (stopping_.exchange(true)) return;
    if (acceptor_ == nullptr) return;
    acceptor_->Stop();
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
      server_.crowd_ = std::max(server_.crowd_, server_.connections_.size());
      server_.CountConnection(1);
    }
    ~Registration() {
      absl::MutexLock lock(&server_.mutex_);
      server_.connections_.erase(key_);
      server_.CountConnection(-1);
      server_.GiveBackMemoryOfACrowd();
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

  // Many have gone: what each held was small, and together is megabytes that the allocator keeps.
  void GiveBackMemoryOfACrowd() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (crowd_ < kCrowd || connections_.size() > crowd_ / 4) return;
    crowd_ = connections_.size();
    if (parts_.pool != nullptr) parts_.pool->WillBeFreed(kCrowd * kConnectionBytes);
  }

  size_t ConnectionCount() {
    absl::MutexLock lock(&mutex_);
    return connections_.size();
  }

  void CountRefusal() {
    if (parts_.metrics != nullptr) parts_.metrics->ConnectionRefused(RequestFace::kHttp);
  }

  // On the acceptor's thread.
  void Connected(int accepted, bool crowded) {
    const bool full = crowded || ConnectionCount() >= options_.max_connections;
    if (full) CountRefusal();
    tcp::socket socket(net::make_strand(io_));
    error_code ec;
    if (!full || (!crowded && refusals_ < max_refusals())) {
      socket.assign(FamilyOf(accepted), accepted, ec);
    }
    if (!socket.is_open()) {
      close(accepted);
      if (ec) {
        if (const auto note = drops_said_.Say(parts_.clock.Now())) {
          spdlog::warn("HTTP: a connection is dropped: {}{}", ec.message(), *note);
        }
      }
      return;
    }
    const auto context = tls_ ? tls_->Context() : nullptr;
    auto connection = std::make_shared<HttpConnection>(std::move(socket), context.get(), *shared_);
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

  int max_refusals() const {
    return static_cast<int>(std::clamp<size_t>(options_.max_connections / 8, 1, kMaxRefusals));
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
  LogLimit drops_said_;
  HttpDate date_;
  std::optional<OriginPolicy> origins_;  // when the address is known
  std::optional<HttpTls> tls_;  // nothing: plaintext
  std::optional<HttpConnectionContext> shared_;
  absl::Mutex mutex_;
  absl::CondVar all_closed_;
  std::map<uint64_t, std::weak_ptr<HttpConnection>> connections_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_key_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t crowd_ ABSL_GUARDED_BY(mutex_) = 0;  // the most connections since memory was given back

  // Last but the threads: coroutines that it still holds at its end use everything above.
  net::io_context io_;
  std::vector<std::thread> threads_;
  std::unique_ptr<ConnectionAcceptor> acceptor_;  // its thread uses the others
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
