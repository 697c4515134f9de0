#pragma once
// Messages from and to bytes. The services here take raw bytes, because gRPC answers a request that
// it cannot decode with an empty UNIMPLEMENTED, which clients take for a missing method.
//
// Threads: pure functions.

#include <optional>

#include "google/protobuf/message.h"
#include "grpcpp/support/byte_buffer.h"
#include "router/api/request/api_error.h"

namespace sheaf {

// kInvalidArgument: the bytes are no such message, or a text in it is not UTF-8.
std::optional<ApiError> DecodeMessage(const grpc::ByteBuffer& bytes,
                                      google::protobuf::Message& message);

grpc::ByteBuffer EncodeMessage(const google::protobuf::Message& message);

}  // namespace sheaf
