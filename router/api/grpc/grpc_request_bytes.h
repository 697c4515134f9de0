#pragma once
// What a gRPC request takes of the server's budget for requests (ApiContext::request_bytes).
//
// gRPC has read a message before anybody here sees it, so what is refused here is its preparation.
// Threads: any.

#include <memory>
#include <optional>
#include <utility>

#include "router/api/generation/api_context.h"
#include "router/api/request/api_error.h"

namespace sheaf {

// Held for as long as something made of the message is; nothing: there is no room.
inline std::optional<std::shared_ptr<ByteBudget::Lease>> TakeLease(const ApiContext& context,
                                                                   size_t bytes) {
  if (context.request_bytes == nullptr) return std::make_shared<ByteBudget::Lease>();
  std::optional<ByteBudget::Lease> lease = context.request_bytes->TryTake(bytes);
  if (!lease) return std::nullopt;
  return std::make_shared<ByteBudget::Lease>(*std::move(lease));
}

inline ApiError NoRoomForRequest(const ApiContext& context) {
  return {absl::ResourceExhaustedError("too many bytes of requests are being prepared"),
          {},
          context.engine.RetryAfter()};
}

}  // namespace sheaf
