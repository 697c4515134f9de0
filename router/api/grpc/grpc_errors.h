#pragma once
// The one place where an error becomes a gRPC status with its rich details (google.rpc.Status in
// grpc-status-details-bin) and the pushback that clients with a retry policy obey.
//
// Threads: pure, but for the trailing metadata of `context`.

#include "grpcpp/server_context.h"
#include "grpcpp/support/status.h"
#include "router/api/request/api_error.h"

namespace sheaf {

// `context` may be null: then no trailing metadata is added.
grpc::Status GrpcStatusOf(const ApiError& error, grpc::ServerContextBase* context);

// The path in sheaf.v1 messages of what the HTTP API calls `field`: "top_p" -> "sampling.top_p".
std::string GrpcFieldPath(const std::string& field);

}  // namespace sheaf
