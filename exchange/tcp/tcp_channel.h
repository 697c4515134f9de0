#pragma once
// TcpChannel: the socket of one link, shared by the link's thread, which sends and takes what has
// arrived, and the loop's thread, which receives and sends what did not fit into the socket.
//
//   out   Send writes at once as much as the kernel takes; the rest of the frame stays in its own
//         memory and the loop writes it when there is room.
//   in    the loop reads headers, proves them, reads each payload into memory of its own and rings.
//         While too much is unreleased it does not read: the peer's sends then fill up.
//   tags  with macs a frame is header, tag, payload; nobody sees a frame whose tag is wrong. How
//         long the payload is must be believed before (at most max_frame_bytes): who changes it on
//         the way makes this end wait, as by holding the frame back.
//
// Buffers    payload memory is used again, up to kKeptBytes that wait for it.
// Threads    as said; every public call of any thread.
// Errors     as FrameLink's; with macs kUnauthenticated: a frame that is not as the peer
//            sent it. The first one stays. Next gives all that arrived before.

#include <array>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "base/unique_fd.h"
#include "base/byte_buffer.h"
#include "exchange/link/bell.h"
#include "exchange/link/frame_mac.h"
#include "exchange/link/io_loop.h"
#include "exchange/wire/frame.h"

namespace sheaf {

struct TcpLimits {
  // Accepted by Send and not yet taken by the kernel.
  size_t max_unsent_bytes = size_t{1} << 30;
  // Arrived and not released; beyond, the socket is not read.
  size_t max_unread_bytes = size_t{1} << 30;
  size_t max_unread_frames = 256;
  // A header that claims more is nonsense.
  size_t max_frame_bytes = size_t{1} << 30;
};

// Of both directions of a link.
struct TcpMacs {
  FrameMac out;
  FrameMac in;
  static absl::StatusOr<TcpMacs> Of(const FrameKey& out, const FrameKey& in);
};

class TcpChannel final : public IoLoop::Handler {
 public:
  struct Arrived {
    FrameHeader header;
    ByteBuffer payload;
  };

  // macs: nullopt: frames have no tags.
  TcpChannel(UniqueFd socket, LinkId link, const TcpLimits& limits, std::optional<TcpMacs> macs,
             Bell& bell);

  // Joins the loop; Leave before it goes.
  absl::Status Join(std::shared_ptr<IoLoop> loop);
  void Leave();

  // Whether that much more may be sent now.
  absl::Status MaySend(size_t bytes);
  // Memory for a payload, of what was used before if there is any.
  ByteBuffer TakeBuffer(size_t bytes);
  // The first header.payload_bytes of `payload`. One at a time.
  absl::Status Send(const FrameHeader& header, ByteBuffer payload);

  absl::StatusOr<std::optional<Arrived>> Next();
  // Gives back what Next gave.
  void Release(std::vector<ByteBuffer>& payloads);

  const std::string& peer() const { return peer_; }

  void OnReady(IoLoop::Token self, uint32_t events) override;

 private:
  // Header and, with macs, tag.
  using Head = std::array<uint8_t, kFrameHeaderBytes + kFrameTagBytes>;
  struct Unsent {
    Head head{};
    size_t head_bytes = kFrameHeaderBytes;
    ByteBuffer payload;
    size_t payload_bytes = 0;
    size_t sent = 0;  // of head and payload
    size_t size() const { return head_bytes + payload_bytes; }
  };

  // Receiving; the loop's thread only.
  void Receive(bool to_the_end);
  absl::Status Consume(std::span<const uint8_t> bytes);
  absl::Status BeginPayload();
  void GotPayload(std::span<const uint8_t> bytes);
  absl::Status Deliver();
  bool MayReceive();

  absl::Status WriteUnsent() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status WriteSome(Unsent& frame);
  void KeepLocked(ByteBuffer buffer) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  ByteBuffer TakeLocked(size_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Failed(int error) const;
  // What no peer of ours would have written.
  absl::Status Nonsense(const std::string& what) const;
  // No more is sent or read, and the peer sees it. Locked and not.
  void BreakLocked(const absl::Status& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EndReceiving(const absl::Status& why);
  void SetEventsLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const UniqueFd socket_;
  const std::string peer_;
  const LinkId link_;
  const TcpLimits limits_;
  Bell& bell_;
  std::shared_ptr<IoLoop> loop_;
  std::vector<uint8_t> input_;

  std::optional<TcpMacs> macs_;  // out: the sender's; in: the loop's thread only
  const size_t head_bytes_;

  // The frame that is arriving; the loop's thread only.
  Head head_{};
  size_t head_have_ = 0;
  FrameHeader header_;
  ByteBuffer payload_;
  size_t payload_have_ = 0;

  absl::Mutex mutex_;
  IoLoop::Token token_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status broken_ ABSL_GUARDED_BY(mutex_);
  bool read_all_ ABSL_GUARDED_BY(mutex_) = false;  // nothing more arrives
  bool paused_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<Unsent> unsent_ ABSL_GUARDED_BY(mutex_);
  size_t unsent_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  std::deque<Arrived> arrived_ ABSL_GUARDED_BY(mutex_);
  size_t unread_frames_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t unread_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<ByteBuffer> kept_ ABSL_GUARDED_BY(mutex_);
  size_t kept_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace sheaf
