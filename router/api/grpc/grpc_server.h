#pragma once
// GrpcServer: one gRPC port with the Inference service, health, reflection and whatever else is
// registered on it (the cluster service of the router).
//
// Health     "" and "sheaf.v1.Inference" are SERVING exactly while the engine is ready (looked at
//            every 20 ms), so Watch follows it; unknown names are NOT_FOUND.
// Threads    gRPC's own, one for health.
// Ownership  engine and services outlive the server. Destruction stops it (without patience).

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "grpcpp/impl/codegen/service_type.h"
#include "router/schedule/generation.h"

namespace sheaf {

struct GrpcServerOptions {
  std::string host = "127.0.0.1";
  uint16_t port = 0;  // 0: any free one
  int max_message_bytes =
      64 << 20;  // long token-id prompts and log-probabilities pass gRPC's 4 MiB
};

class GrpcServer {
 public:
  // Errors: kUnavailable when the address cannot be bound (names it).
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Start(
      const GrpcServerOptions& options, const GenerationEngine& engine,
      const std::vector<grpc::Service*>& services);
  virtual ~GrpcServer() = default;

  virtual uint16_t port() const = 0;
  // NOT_SERVING at once, no new calls; those under way may end until the patience is over, then
  // they are cancelled.
  virtual void Stop(std::chrono::milliseconds patience) = 0;
};

}  // namespace sheaf
