#pragma once
// grpc.reflection.v1 for a server: newer tools ask for it, the installed gRPC serves v1alpha only.
//
// Usage: builder.SetOption(MakeReflectionV1Option()) before BuildAndStart; it lists every service
// of that server.

#include <memory>

#include "grpcpp/impl/server_builder_option.h"

namespace sheaf {

std::unique_ptr<grpc::ServerBuilderOption> MakeReflectionV1Option();

}  // namespace sheaf
