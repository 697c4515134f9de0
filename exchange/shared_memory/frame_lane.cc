#include "exchange/shared_memory/frame_lane.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/check.h"
#include "base/round_up.h"
#include "base/status.h"

namespace sheaf {

struct LaneControl {
  struct alignas(128) Slot {
    FrameHeaderBytes header;
    // Atomic so that each is read once and the proof is of the value that is used.
    std::atomic<uint64_t> offset;
    std::atomic<uint64_t> bytes;
  };
  std::atomic<uint64_t> published;
  alignas(64) std::atomic<uint64_t> released;
  Slot slots[kLaneSlots];
};
static_assert(sizeof(LaneControl) <= kLaneControlBytes);
static_assert(std::atomic<uint64_t>::is_always_lock_free);

namespace {

constexpr size_t kPayloadAlignment = 64;
constexpr size_t kFirstPayloadBytes = 256 * 1024;
// Far above any batch; keeps sums of sizes from overflowing.
constexpr uint64_t kMaxLaneBytes = uint64_t{16} << 30;

size_t Aligned(size_t bytes) { return RoundUp(bytes, size_t{kPayloadAlignment}); }

}  // namespace

absl::StatusOr<LaneWriter> LaneWriter::Create(size_t max_bytes) {
  LaneWriter writer;
  writer.max_bytes_ = std::min<uint64_t>(max_bytes, kMaxLaneBytes / 2);
  SHEAF_ASSIGN_OR_RETURN(writer.file_,
                         MemoryFile::Create("sheaf-lane", kLaneControlBytes + kFirstPayloadBytes));
  writer.under_way_.reserve(kLaneSlots);
  return writer;
}

LaneControl* LaneWriter::control() const { return reinterpret_cast<LaneControl*>(file_.data()); }

size_t LaneWriter::FirstGap(size_t bytes) const {
  size_t at = kLaneControlBytes;
  for (const Piece& piece : under_way_) {
    if (piece.begin - at >= bytes) break;
    at = piece.end;
  }
  return at;
}

absl::StatusOr<std::span<uint8_t>> LaneWriter::Reserve(size_t bytes, uint64_t released) {
  if (released < released_ || released > published_) {
    return absl::InvalidArgumentError(
        absl::StrFormat("shared memory: the peer claims to be done with %d frames: wanted %d..%d",
                        released, released_, published_));
  }
  if (released != released_) {
    released_ = released;
    std::erase_if(under_way_, [released](const Piece& piece) { return piece.frame < released; });
  }
  if (published_ - released_ >= kLaneSlots) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("shared memory: %d frames are unread, wanted below %d",
                        published_ - released_, kLaneSlots));
  }
  const size_t at = bytes <= max_bytes_ ? FirstGap(Aligned(bytes)) : 0;
  if (bytes > max_bytes_ || at - kLaneControlBytes > max_bytes_ - bytes) {
    return absl::ResourceExhaustedError(absl::StrFormat(
        "shared memory: no room for %d bytes beside %d unread frames: the bound is %d bytes", bytes,
        published_ - released_, max_bytes_));
  }
  SHEAF_RETURN_IF_ERROR(file_.GrowTo(at + bytes));
  reserved_at_ = at;
  reserved_bytes_ = bytes;
  return std::span<uint8_t>(file_.data() + reserved_at_, bytes);
}

void LaneWriter::Publish(const FrameHeader& header) {
  SHEAF_CHECK(reserved_at_ != 0 && header.payload_bytes <= reserved_bytes_,
              "a frame is reserved before it is sent");
  LaneControl::Slot& slot = control()->slots[published_ % kLaneSlots];
  slot.header = EncodeFrameHeader(header);
  slot.offset.store(reserved_at_, std::memory_order_relaxed);
  slot.bytes.store(header.payload_bytes, std::memory_order_relaxed);
  if (header.payload_bytes > 0) {
    const Piece piece{published_, reserved_at_, reserved_at_ + Aligned(header.payload_bytes)};
    under_way_.insert(std::upper_bound(under_way_.begin(), under_way_.end(), piece,
                                       [](const Piece& a, const Piece& b) {
                                         return a.begin < b.begin;
                                       }),
                      piece);
  }
  reserved_at_ = 0;
  control()->published.store(++published_, std::memory_order_release);
}

void LaneWriter::SetReleased(uint64_t frames) {
  control()->released.store(frames, std::memory_order_release);
}

absl::StatusOr<LaneReader> LaneReader::Map(UniqueFd fd) {
  LaneReader reader;
  SHEAF_ASSIGN_OR_RETURN(
      reader.file_, MappedFile::Map(std::move(fd), kLaneControlBytes, MappedFile::Access::kRead));
  return reader;
}

const LaneControl* LaneReader::control() const {
  return reinterpret_cast<const LaneControl*>(file_.data());
}

absl::StatusOr<std::optional<LaneFrame>> LaneReader::Next() {
  const uint64_t published = control()->published.load(std::memory_order_acquire);
  if (published == consumed_) return std::optional<LaneFrame>();
  // Before consumed_ (the count wraps round) as well as more than there are slots.
  if (published - released_ > kLaneSlots || published - released_ < consumed_ - released_) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "shared memory: the peer claims %d frames: wanted %d..%d", published, consumed_,
        released_ + kLaneSlots));
  }
  const LaneControl::Slot& slot = control()->slots[consumed_ % kLaneSlots];
  LaneFrame frame;
  std::memcpy(frame.header.data(), slot.header.data(), frame.header.size());
  std::atomic_signal_fence(std::memory_order_seq_cst);  // not read a second time
  const uint64_t offset = slot.offset.load(std::memory_order_relaxed);
  const uint64_t bytes = slot.bytes.load(std::memory_order_relaxed);
  if (offset < kLaneControlBytes || offset % kPayloadAlignment != 0 || offset > kMaxLaneBytes ||
      bytes > kMaxLaneBytes) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "shared memory: frame %d claims bytes %d.. of length %d", consumed_, offset, bytes));
  }
  SHEAF_RETURN_IF_ERROR(file_.ExtendTo(offset + bytes));
  frame.payload = {file_.data() + offset, bytes};
  ++consumed_;
  return std::optional<LaneFrame>(frame);
}

uint64_t LaneReader::Release() {
  released_ = consumed_;
  file_.ForgetOldMappings();
  return released_;
}

uint64_t LaneReader::peer_released() const {
  return control()->released.load(std::memory_order_acquire);
}

}  // namespace sheaf
