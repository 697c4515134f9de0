#pragma once
// A lane carries frames one way between two processes: the writer's memory file, which the reader
// maps read-only. A frame's payload is written once, in place, and read where it lies.
//
//   0       published   u64: frames written so far
//   64      released    u64: frames of the opposite lane that this lane's writer is done with
//   128     slots       kLaneSlots of {64-byte header, u64 offset, u64 bytes, padding}
//   ...     payloads    from kLaneControlBytes on, 64-byte aligned
//
// Payloads are laid one after the other; when the reader has released all of them the next starts
// from the front. The file grows to what was ever under way at once (a batch's dispatch or combine)
// and stays so.
//
// LaneWriter   Reserve, fill, Publish; then ring the reader's doorbell.
// LaneReader   Next while HasFrame. The reader's own writer tells the other side what was released.
//
// Threads    one at a time for each end; the two ends run at the same time.
// Ownership  a reserved span is valid until the next Reserve, a read frame until the reader's next
//            Next or until it is released.
// Errors     Reserve: kResourceExhausted (no memory; kLaneSlots frames unread). Next:
//            kInvalidArgument, the peer wrote nonsense. Nothing the peer writes is used unproved.

#include <array>
#include <atomic>
#include <cstdint>
#include <span>

#include "exchange/wire/frame.h"
#include "exchange/link/memory_file.h"

namespace sheaf {

inline constexpr size_t kLaneSlots = 64;
inline constexpr size_t kLaneControlBytes = 12288;

struct LaneControl;  // the layout above

class LaneWriter {
 public:
  static absl::StatusOr<LaneWriter> Create();

  int fd() const { return file_.fd(); }

  // `released`: frames of this lane that the reader is done with (LaneReader::peer_released()).
  absl::StatusOr<std::span<uint8_t>> Reserve(size_t bytes, uint64_t released);
  // What was reserved last becomes the reader's, with this header.
  void Publish(const FrameHeader& header);
  // Tells the opposite lane's writer.
  void SetReleased(uint64_t frames);

 private:
  LaneControl* control() const;

  MemoryFile file_;
  uint64_t published_ = 0;
  size_t top_ = kLaneControlBytes;  // end of what is under way
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

  bool HasFrame() const;
  absl::StatusOr<LaneFrame> Next();
  uint64_t consumed() const { return consumed_; }
  uint64_t peer_released() const;

 private:
  const LaneControl* control() const;

  MappedFile file_;
  uint64_t consumed_ = 0;
};

}  // namespace sheaf
