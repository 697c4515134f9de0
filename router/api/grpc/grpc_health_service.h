#pragma once
// GrpcHealthService: grpc.health.v1 of one server.
//
// Names      "" says whether the process lives (a hung engine does not: it is to be restarted); the
//            full name of a service of the server whether requests would be served now. Check of
//            another name is NOT_FOUND, Watch of it says SERVICE_UNKNOWN and stays.
// Check      asks the engine.
// Watch      is told when Changed says so; what only time brings (an engine that hangs), within
//            `look_again`. While nobody watches nothing is looked at.
// Threads    gRPC's own, one for the watchers.
// Ownership  the engine outlives the service, and the service the server that it is registered on.

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "grpcpp/impl/service_type.h"
#include "router/schedule/generation.h"

namespace sheaf {

class GrpcHealthService {
 public:
  static constexpr std::chrono::milliseconds kLookAgain{1000};

  static std::unique_ptr<GrpcHealthService> Create(
      const GenerationEngine& engine, std::chrono::milliseconds look_again = kLookAgain);
  virtual ~GrpcHealthService() = default;

  virtual grpc::Service* service() = 0;
  // The names that are known; once, before the first call.
  virtual void SetServices(std::vector<std::string> names) = 0;
  // What the engine says may have changed. Any thread; does not block.
  virtual void Changed() = 0;
  // From here on nothing is SERVING. Watchers are told so, then their calls end.
  virtual void Stop() = 0;
};

}  // namespace sheaf
