#pragma once
// The sheaf.v1.Inference service.
//
// Threads    gRPC's own for calls; requests are prepared on the PreparationPool; results come by
//            the WakeQueue's thread.
// Flow       one write at a time: what the client does not read waits in the GenerationCall, which
//            has a bound.
// Ownership  `context` outlives the service, the service its server.

#include <memory>

#include "grpcpp/impl/codegen/service_type.h"
#include "network/connection_resets.h"
#include "router/api/generation/api_context.h"

namespace sheaf {

std::unique_ptr<grpc::Service> MakeInferenceService(const ApiContext& context,
                                                    ConnectionResets* resets = nullptr);

}  // namespace sheaf
