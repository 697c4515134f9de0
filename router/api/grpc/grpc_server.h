#pragma once
// GrpcServer: one gRPC port with the Inference service, health, reflection and whatever else is
// registered on it (the cluster service of the router).
//
// Health     "" is SERVING while the engine lives, every service's full name while it is ready
//            (grpc_health_service.h).
// Reflection v1 and v1alpha; every service of the server can be described.
// Bounds     connections (network/grpc_listener.h).
// Threads    gRPC's own, one for health, one that accepts.
// Ownership  engine and services outlive the server. Destruction stops it (without patience).

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "grpcpp/impl/codegen/service_type.h"
#include "network/connection_resets.h"
#include "network/tls/tls_identity.h"
#include "router/schedule/generation.h"

namespace sheaf {

struct GrpcServerOptions {
  std::string host = "127.0.0.1";
  uint16_t port = 0;  // 0: any free one
  int max_message_bytes =
      64 << 20;  // long token-id prompts and log-probabilities pass gRPC's 4 MiB
  size_t max_connections = 16384;
  int descriptor_ceiling = 0;  // sockets from this number on are refused; 0: none is
  std::function<void()> on_refused = [] {};  // a connection; on a thread of its own
  // What calls and messages of all connections may take together: beyond, gRPC reads more slowly
  // and then fails calls with RESOURCE_EXHAUSTED. An idle call takes about 20 KB.
  size_t memory_bytes = size_t{384} << 20;
  // Null: clients may leave as often as they like. Outlives the server.
  ConnectionResets* resets = nullptr;
  std::shared_ptr<TlsIdentity> tls = nullptr;  // null: plaintext
};

class GrpcServer {
 public:
  // Errors: kUnavailable when the address cannot be bound (names it); with TLS also
  // GrpcServerCredentials'.
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Start(
      const GrpcServerOptions& options, const GenerationEngine& engine,
      const std::vector<grpc::Service*>& services);
  virtual ~GrpcServer() = default;

  virtual uint16_t port() const = 0;
  // What the engine says of itself may have changed: those who watch the health service are told.
  virtual void HealthChanged() = 0;
  // NOT_SERVING at once, no new calls; those under way may end until the patience is over, then
  // they are cancelled.
  virtual void Stop(std::chrono::milliseconds patience) = 0;
};

}  // namespace sheaf
