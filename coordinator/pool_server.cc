#include "coordinator/pool_server.h"

#include <chrono>

#include "absl/strings/str_format.h"
#include "base/host_port.h"

namespace sheaf {
namespace {

// Sessions are a few connections; a stranger gets no large messages in.
constexpr int kMaxMessageBytes = 4 << 20;

}  // namespace

PoolServer::PoolServer(Coordinator& coordinator, const std::shared_ptr<TlsIdentity>& tls)
    : coordinator_(coordinator), sessions_(coordinator, tls), operators_(coordinator, tls) {}

absl::StatusOr<std::unique_ptr<PoolServer>> PoolServer::Start(const PoolServerOptions& options,
                                                              Coordinator& coordinator) {
  std::unique_ptr<PoolServer> made(new PoolServer(coordinator, options.tls));
  grpc::ServerBuilder builder;
  auto listener = GrpcListener::Listen(
      {.name = "cluster",
       .host = options.host,
       .port = static_cast<uint16_t>(options.port),
       .tls = options.tls,
       .newest_tls_alone = true},
      builder);
  if (!listener.ok()) {
    return absl::UnavailableError(
        absl::StrFormat("the cluster listener cannot have %s: is it taken? (%s)",
                        JoinHostPort(options.host, options.port), listener.status().message()));
  }
  made->listener_ = *std::move(listener);
  builder.RegisterService(&made->sessions_);
  builder.RegisterService(&made->operators_);
  builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
  // Routers hear nothing for hours in a quiet pool; their keep-alive must be welcome.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 500);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  // A peer whose host is gone says nothing any more: its session must end some day.
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 10000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10000);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  made->server_ = builder.BuildAndStart();
  if (made->server_ == nullptr) {
    return absl::UnavailableError("the cluster listener's server cannot be started");
  }
  made->listener_->Start();
  made->address_ = JoinHostPort(options.host, made->listener_->port());
  return made;
}

PoolServer::~PoolServer() { Stop(); }

void PoolServer::Stop() {
  if (server_ == nullptr) return;
  coordinator_.Stop();
  listener_->Stop();
  server_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(1));
  server_ = nullptr;
}

}  // namespace sheaf
