#pragma once
// A lane carries frames one way between two processes: the writer's memory file, which the reader
// maps read-only. A frame's payload is written once, in place, and read where it lies.
//
//   0       published   u64: frames written so far
//   64      released    u64: frames of the opposite lane that this lane's writer is done with
//   128     slots       kLaneSlots of {64-byte header, u64 offset, u64 bytes, padding}
//   ...     payloads    from kLaneControlBytes on, 64-byte aligned
//
// Memory of released frames is used again while later ones are still read: a payload goes into the
// first gap between those under way that holds it, so the lane stays as large as what was ever
// under way at once (and what falls between), and what is used again is what the caches know.
//
// LaneWriter   Reserve, fill, Publish; then ring the reader's doorbell.
// LaneReader   Next. The reader's own writer tells the other side what was released.
//
// Trust      nothing the peer writes into the control part is used unproved. That it leaves a
//            payload alone once it is published is taken from a peer that knows the link's secret.
// Threads    one at a time for each end; the two ends run at the same time.
// Ownership  a reserved span is valid until the next Reserve; a read frame until Release.
// Errors     Reserve: kResourceExhausted (no memory; kLaneSlots frames or max_bytes under way).
//            Reserve and Next: kInvalidArgument, the peer wrote nonsense.
// Cost       Reserve looks at the frames under way, at most kLaneSlots.

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "exchange/link/memory_file.h"
#include "exchange/wire/frame.h"

namespace sheaf {

inline constexpr size_t kLaneSlots = 64;
inline constexpr size_t kLaneControlBytes = 12288;
inline constexpr size_t kDefaultLaneBytes = size_t{1} << 30;

struct LaneControl;  // the layout above

class LaneWriter {
 public:
  // max_bytes: of payloads under way.
  static absl::StatusOr<LaneWriter> Create(size_t max_bytes = kDefaultLaneBytes);

  int fd() const { return file_.fd(); }
  size_t memory_bytes() const { return file_.bytes(); }

  // `released`: frames of this lane that the reader is done with (LaneReader::peer_released()).
  absl::StatusOr<std::span<uint8_t>> Reserve(size_t bytes, uint64_t released);
  // What was reserved last, the first header.payload_bytes of it, becomes the reader's.
  void Publish(const FrameHeader& header);
  // Tells the opposite lane's writer.
  void SetReleased(uint64_t frames);

 private:
  struct Piece {
    uint64_t frame = 0;
    size_t begin = 0;
    size_t end = 0;
  };

  LaneControl* control() const;
  size_t FirstGap(size_t bytes) const;

  MemoryFile file_;
  size_t max_bytes_ = 0;
  uint64_t published_ = 0;
  uint64_t released_ = 0;
  std::vector<Piece> under_way_;  // ascending begin
  size_t reserved_at_ = 0;
  size_t reserved_bytes_ = 0;
};

struct LaneFrame {
  FrameHeaderBytes header;  // a copy: the peer cannot change it after it was looked at
  std::span<const uint8_t> payload;
};

class LaneReader {
 public:
  static absl::StatusOr<LaneReader> Map(UniqueFd fd);

  // nullopt: nothing new.
  absl::StatusOr<std::optional<LaneFrame>> Next();
  // Nothing that Next gave is read any more. Returns how many frames that is, for SetReleased.
  uint64_t Release();
  uint64_t peer_released() const;

 private:
  const LaneControl* control() const;

  MappedFile file_;
  uint64_t consumed_ = 0;
  uint64_t released_ = 0;
};

}  // namespace sheaf
