#pragma once
// What travels in a simulation: the bytes of hellos and frames as they are on the wire, and the
// control plane's messages.

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "exchange/link/link_handshake.h"
#include "exchange/wire/frame.h"
#include "sheaf/v1/pool.pb.h"
#include "tests/simulation/simulated_network.h"

namespace sheaf::simulation {

// Ports of a host.
inline constexpr int kDataPort = 1;
inline constexpr int kWorkerSessionPort = 2;
inline constexpr int kRouterSessionPort = 3;

struct HelloMessage final : Message {
  HelloBytes bytes{};
};
struct HelloAnswerMessage final : Message {
  HelloAnswerBytes bytes{};
};
struct HelloProofMessage final : Message {
  HelloProofBytes bytes{};
};
struct FrameMessage final : Message {
  FrameHeaderBytes header{};
  std::vector<uint8_t> payload;
};

template <typename Proto>
struct ProtoMessage final : Message {
  explicit ProtoMessage(Proto m) : proto(std::move(m)) {}
  Proto proto;
};
// The status that ends a session.
struct EndMessage final : Message {
  explicit EndMessage(absl::Status s) : status(std::move(s)) {}
  absl::Status status;
};

template <typename Proto>
void SendProto(Channel& channel, const Proto& proto) {
  channel.Send(std::make_shared<ProtoMessage<Proto>>(proto), proto.ByteSizeLong() + 5);
}
template <typename Proto>
const Proto* AsProto(const MessagePtr& message) {
  const auto* typed = dynamic_cast<const ProtoMessage<Proto>*>(message.get());
  return typed == nullptr ? nullptr : &typed->proto;
}

inline void SendFrame(Channel& channel, const FrameHeader& header, std::vector<uint8_t> payload) {
  auto message = std::make_shared<FrameMessage>();
  message->header = EncodeFrameHeader(header);
  message->payload = std::move(payload);
  const size_t bytes = kFrameHeaderBytes + message->payload.size();
  channel.Send(std::move(message), bytes);
}

}  // namespace sheaf::simulation
