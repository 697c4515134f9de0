#include "exchange/shared_memory/frame_lane.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/status.h"

namespace sheaf {

struct LaneControl {
  struct alignas(128) Slot {
    FrameHeaderBytes header;
    uint64_t offset;
    uint64_t bytes;
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

size_t RoundUp(size_t bytes) {
  return (bytes + kPayloadAlignment - 1) / kPayloadAlignment * kPayloadAlignment;
}

}  // namespace

absl::StatusOr<LaneWriter> LaneWriter::Create() {
  LaneWriter writer;
  SHEAF_ASSIGN_OR_RETURN(writer.file_,
                         MemoryFile::Create("sheaf-lane", kLaneControlBytes + kFirstPayloadBytes));
  return writer;
}

LaneControl* LaneWriter::control() const { return reinterpret_cast<LaneControl*>(file_.data()); }

absl::StatusOr<std::span<uint8_t>> LaneWriter::Reserve(size_t bytes, uint64_t released) {
  const uint64_t under_way = published_ - released;  // a wild count only makes this large
  if (under_way >= kLaneSlots) {
    return absl::ResourceExhaustedError(absl::StrFormat(
        "shared memory: %d frames are unread, wanted below %d", under_way, kLaneSlots));
  }
  if (under_way == 0) top_ = kLaneControlBytes;
  if (bytes > kMaxLaneBytes || top_ > kMaxLaneBytes) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("shared memory: %d bytes beside %d under way: wanted at most %d", bytes,
                        top_, kMaxLaneBytes));
  }
  SHEAF_RETURN_IF_ERROR(file_.GrowTo(top_ + bytes));
  reserved_at_ = top_;
  reserved_bytes_ = bytes;
  return std::span<uint8_t>(file_.data() + reserved_at_, bytes);
}

void LaneWriter::Publish(const FrameHeader& header) {
  LaneControl::Slot& slot = control()->slots[published_ % kLaneSlots];
  slot.header = EncodeFrameHeader(header);
  slot.offset = reserved_at_;
  slot.bytes = reserved_bytes_;
  top_ = RoundUp(reserved_at_ + reserved_bytes_);
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

bool LaneReader::HasFrame() const {
  return control()->published.load(std::memory_order_acquire) != consumed_;
}

absl::StatusOr<LaneFrame> LaneReader::Next() {
  const LaneControl::Slot& slot = control()->slots[consumed_ % kLaneSlots];
  LaneFrame frame;
  frame.header = slot.header;
  const uint64_t offset = slot.offset;
  const uint64_t bytes = slot.bytes;
  if (offset < kLaneControlBytes || offset % kPayloadAlignment != 0 || offset > kMaxLaneBytes ||
      bytes > kMaxLaneBytes) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "shared memory: frame %d claims bytes %d.. of length %d", consumed_, offset, bytes));
  }
  SHEAF_RETURN_IF_ERROR(file_.ExtendTo(offset + bytes));
  frame.payload = {file_.data() + offset, bytes};
  ++consumed_;
  return frame;
}

uint64_t LaneReader::peer_released() const {
  return control()->released.load(std::memory_order_acquire);
}

}  // namespace sheaf
