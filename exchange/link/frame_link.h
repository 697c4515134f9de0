#pragma once
// FrameLink: one end of one link, after its hello: a byte mover that carries whole frames both
// ways, in order, between one router and one worker. Both ends look alike. Shared memory
// (exchange/shared_memory/), TCP (exchange/tcp/) and mailboxes (exchange/in_process/) implement it;
// what the frames mean is the business of those above (exchange/pool/, worker/serve/).
//
//   send      Reserve(bytes), fill, Send(header)
//   receive   Next() until there is none; look; Release() when nothing of it is read any more
//   sleep     each end has a Bell, given to it when the link was made, that rings when a frame
//             has arrived or the link has broken
//
// Nothing here waits: a link that is full or broken says so. The peer's death is seen by the mover
// (a broken socket) and shows up in Next() after everything that arrived before.
//
// Ownership  a reserved span is the link's memory, valid until Send or the next Reserve. An arrived
//            payload is the link's memory, 64-byte aligned, valid until Release or the link's end.
//            No mover ever writes into memory of its caller. Destroying a link closes it.
// Threads    one at a time (it may change hands between calls).
// Errors     kResourceExhausted: too much is under way (unread by the peer); the link is still
//            good. kUnavailable: the peer is gone. kInvalidArgument: the peer writes nonsense.
//            kUnauthenticated: a frame is not as the peer sent it, or not the peer's. After the
//            last three the link is broken for good and every call says the same.

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "exchange/link/doorbell.h"
#include "exchange/wire/frame.h"

namespace sheaf {

struct ArrivedFrame {
  FrameHeader header;  // decoded, of this link, payload_bytes == payload.size()
  std::span<const uint8_t> payload;
};

class FrameLink {
 public:
  virtual ~FrameLink() = default;

  virtual absl::StatusOr<std::span<uint8_t>> Reserve(size_t bytes) = 0;
  // What was reserved last, header.payload_bytes of it, goes to the peer. Sets header.link.
  virtual absl::Status Send(FrameHeader header) = 0;
  // The same, but the peer's bell may be left to `bells`, to be rung before Release.
  virtual absl::Status SendForRing(FrameHeader header, Doorbells& bells);

  virtual absl::StatusOr<std::optional<ArrivedFrame>> Next() = 0;
  // All that Next() gave so far.
  virtual void Release() = 0;

  virtual LinkId id() const = 0;
  // What it is made of, for the log: "shared memory", "tcp 10.0.0.2:7001".
  virtual std::string path() const = 0;
};

inline absl::Status FrameLink::SendForRing(FrameHeader header, Doorbells&) { return Send(header); }

}  // namespace sheaf
