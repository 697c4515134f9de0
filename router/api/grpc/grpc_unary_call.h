#pragma once
// RunUnary: a unary call whose work takes its time: done on the PreparationPool, ended in time.
//
// Ends       with the work's answer or error; kResourceExhausted when the pool is full; by the
//            alarm of CallDeadline while the work still waits or runs, or when the client is gone:
//            then what the work says is dropped. kResourceExhausted at once when there is no room
//            for its bytes (ApiContext::request_bytes).
// Threads    Called on gRPC's threads; `work` runs on the pool and must not touch the call.

#include <functional>

#include "grpcpp/grpcpp.h"
#include "network/connection_resets.h"
#include "router/api/generation/api_context.h"
#include "router/api/request/api_error.h"
#include "router/api/request/request_validation.h"

namespace sheaf {

// Told whether the client has left meanwhile.
using UnaryWork = std::function<ApiResult<grpc::ByteBuffer>(const ClientLeft&)>;

// `resets` may be null. `response` is gRPC's, written before the end of the call.
grpc::ServerUnaryReactor* RunUnary(const ApiContext& context, ConnectionResets* resets,
                                   grpc::CallbackServerContext* server,
                                   grpc::ByteBuffer* response, size_t request_bytes,
                                   UnaryWork work);

}  // namespace sheaf
