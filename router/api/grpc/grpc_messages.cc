#include "router/api/grpc/grpc_messages.h"

#include "absl/strings/str_cat.h"
#include "grpcpp/support/proto_buffer_reader.h"

namespace sheaf {

std::optional<ApiError> DecodeMessage(const grpc::ByteBuffer& bytes,
                                      google::protobuf::Message& message) {
  grpc::ByteBuffer readable = bytes;  // the reader wants one of its own; the bytes are shared
  if (bytes.Valid()) {
    grpc::ProtoBufferReader reader(&readable);
    if (message.ParseFromZeroCopyStream(&reader) && reader.status().ok()) return std::nullopt;
  }
  return ApiError{absl::InvalidArgumentError(
                      absl::StrCat("the request is not a ", message.GetDescriptor()->full_name(),
                                   ": its bytes are no such message, or a text is not UTF-8")),
                  {},
                  {}};
}

grpc::ByteBuffer EncodeMessage(const google::protobuf::Message& message) {
  const grpc::Slice slice(message.SerializeAsString());
  return grpc::ByteBuffer(&slice, 1);
}

}  // namespace sheaf
