#include "router/api/grpc/grpc_server.h"

#include <condition_variable>
#include <mutex>
#include <thread>

#include "absl/strings/str_format.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/grpcpp.h"
#include "grpcpp/health_check_service_interface.h"
#include "router/api/grpc/grpc_reflection_v1.h"

namespace sheaf {
namespace {

constexpr const char* kInferenceName = "sheaf.v1.Inference";
constexpr std::chrono::milliseconds kHealthInterval{20};

// gRPC keeps both in global state that must be set before the first builder.
void EnablePlugins() {
  static std::once_flag once;
  std::call_once(once, [] {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  });
}

class Server final : public GrpcServer {
 public:
  Server(const GenerationEngine& engine) : engine_(engine) {}
  ~Server() override { Stop(std::chrono::milliseconds(0)); }

  absl::Status Listen(const GrpcServerOptions& options,
                      const std::vector<grpc::Service*>& services) {
    EnablePlugins();
    grpc::ServerBuilder builder;
    int bound_port = 0;
    const std::string address = absl::StrFormat("%s:%d", options.host, options.port);
    builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &bound_port);
    for (grpc::Service* service : services) builder.RegisterService(service);
    builder.SetOption(MakeReflectionV1Option());
    builder.SetMaxReceiveMessageSize(options.max_message_bytes);
    builder.SetMaxSendMessageSize(options.max_message_bytes);
    // Gateways ping every 30 s, also between calls; gRPC's defaults would answer that with GOAWAY
    // too_many_pings.
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 60'000);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20'000);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5'000);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PING_STRIKES, 0);
    // Two servers on one port would share its clients silently.
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    server_ = builder.BuildAndStart();
    if (!server_ || bound_port == 0) {
      return absl::UnavailableError(absl::StrFormat("gRPC: cannot listen on %s", address));
    }
    port_ = static_cast<uint16_t>(bound_port);
    SetHealth(engine_.ready());
    health_ = std::thread([this] { FollowEngine(); });
    return absl::OkStatus();
  }

  uint16_t port() const override { return port_; }

  void Stop(std::chrono::milliseconds patience) override {
    if (!server_) return;
    {
      std::lock_guard lock(mutex_);
      if (stopping_) return;
      stopping_ = true;
    }
    changed_.notify_one();
    if (health_.joinable()) health_.join();
    SetHealth(false);
    server_->Shutdown(std::chrono::system_clock::now() + patience);
    server_->Wait();
  }

 private:
  void SetHealth(bool serving) {
    auto* health = server_->GetHealthCheckService();
    health->SetServingStatus(serving);  // "" and all that were ever set
    health->SetServingStatus(kInferenceName, serving);
  }

  void FollowEngine() {
    bool serving = engine_.ready();
    SetHealth(serving);
    std::unique_lock lock(mutex_);
    while (!changed_.wait_for(lock, kHealthInterval, [this] { return stopping_; })) {
      const bool ready = engine_.ready();
      if (ready == serving) continue;
      serving = ready;
      SetHealth(serving);
    }
  }

  const GenerationEngine& engine_;
  std::unique_ptr<grpc::Server> server_;
  uint16_t port_ = 0;

  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;  // guarded by mutex_
  std::thread health_;
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
