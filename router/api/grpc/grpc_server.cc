#include "router/api/grpc/grpc_server.h"

#include <atomic>
#include <mutex>
#include <optional>

#include "base/status.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/grpcpp.h"
#include "grpcpp/impl/server_builder_option.h"
#include "grpcpp/impl/server_builder_plugin.h"
#include "grpcpp/impl/server_initializer.h"
#include "network/grpc_call_watch.h"
#include "network/grpc_listener.h"
#include "router/api/grpc/grpc_health_service.h"
#include "router/api/grpc/grpc_reflection_v1.h"

namespace sheaf {
namespace {

// From the connection to the client's first settings.
constexpr int kHandshakeMs = 20'000;

// At once; clients keep further ones back. Twice the requests that may wait by default.
constexpr int kCallsOfConnection = 2048;

// gRPC keeps its reflection in global state that must be set before the first builder.
void EnableReflection() {
  static std::once_flag once;
  std::call_once(once, grpc::reflection::InitProtoReflectionServerBuilderPlugin);
}

// Tells the health service which services the server has, plugins' own included.
class ServiceNames final : public grpc::ServerBuilderPlugin {
 public:
  explicit ServiceNames(GrpcHealthService& health) : health_(health) {}

  std::string name() override { return "sheaf_service_names"; }
  void InitServer(grpc::ServerInitializer*) override {}
  void Finish(grpc::ServerInitializer* server) override {
    health_.SetServices(*server->GetServiceList());
  }
  void ChangeArguments(const std::string&, void*) override {}

 private:
  GrpcHealthService& health_;
};

class ServiceNamesOption final : public grpc::ServerBuilderOption {
 public:
  explicit ServiceNamesOption(GrpcHealthService& health) : health_(health) {}

  void UpdateArguments(grpc::ChannelArguments*) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>* plugins) override {
    plugins->push_back(std::make_unique<ServiceNames>(health_));
  }

 private:
  GrpcHealthService& health_;
};

class Server final : public GrpcServer {
 public:
  explicit Server(const GenerationEngine& engine) : health_(GrpcHealthService::Create(engine)) {}
  ~Server() override { Stop(std::chrono::milliseconds(0)); }

  absl::Status Listen(const GrpcServerOptions& options,
                      const std::vector<grpc::Service*>& services) {
    EnableReflection();
    grpc::ServerBuilder builder;
    SHEAF_ASSIGN_OR_RETURN(listener_,
                           GrpcListener::Listen({.host = options.host,
                                                 .port = options.port,
                                                 .max_connections = options.max_connections,
                                                 .descriptor_ceiling = options.descriptor_ceiling,
                                                 .on_refused = options.on_refused,
                                                 .tls = options.tls},
                                                builder));
    for (grpc::Service* service : services) builder.RegisterService(service);
    builder.RegisterService(health_->service());
    builder.SetOption(MakeReflectionV1Option());
    builder.SetOption(std::make_unique<ServiceNamesOption>(*health_));
    builder.SetMaxReceiveMessageSize(options.max_message_bytes);
    builder.SetMaxSendMessageSize(options.max_message_bytes);
    // Gateways ping every 30 s, also between calls; gRPC's defaults would answer that with GOAWAY
    // too_many_pings.
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 60'000);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20'000);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5'000);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PING_STRIKES, 0);
    builder.SetResourceQuota(grpc::ResourceQuota("clients").Resize(options.memory_bytes));
    builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeMs);
    builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kCallsOfConnection);
    // GrpcCallWatch wants gRPC's counters, not its events.
    builder.AddChannelArgument(GRPC_ARG_MAX_CHANNEL_TRACE_EVENT_MEMORY_PER_NODE, 0);
    server_ = builder.BuildAndStart();
    if (!server_) return absl::UnavailableError("gRPC: the server cannot be started");
    listener_->Start();
    watch_.emplace([this](const std::string& peer) { listener_->Drop(peer); });
    resets_ = options.resets;
    if (resets_ != nullptr) {
      resets_->SetDrop([this](const std::string& peer) { listener_->Drop(peer); });
    }
    return absl::OkStatus();
  }

  uint16_t port() const override { return listener_->port(); }

  void HealthChanged() override { health_->Changed(); }

  void Stop(std::chrono::milliseconds patience) override {
    if (!server_ || stopped_.exchange(true)) return;
    health_->Stop();
    watch_.reset();
    if (resets_ != nullptr) resets_->SetDrop({});
    listener_->Stop();
    server_->Shutdown(std::chrono::system_clock::now() + patience);
    server_->Wait();
  }

 private:
  const std::unique_ptr<GrpcHealthService> health_;
  ConnectionResets* resets_ = nullptr;
  std::unique_ptr<GrpcListener> listener_;
  std::unique_ptr<grpc::Server> server_;
  std::optional<GrpcCallWatch> watch_;
  std::atomic<bool> stopped_{false};
};

}  // namespace

absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Start(
    const GrpcServerOptions& options, const GenerationEngine& engine,
    const std::vector<grpc::Service*>& services) {
  auto server = std::make_unique<Server>(engine);
  absl::Status status = server->Listen(options, services);
  if (!status.ok()) return status;
  return server;
}

}  // namespace sheaf
