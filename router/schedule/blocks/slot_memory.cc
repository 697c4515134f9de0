#include "router/schedule/blocks/slot_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "base/status.h"

namespace sheaf {
namespace {

class AnonymousSlots final : public SlotMemory {
 public:
  AnonymousSlots(uint8_t* data, size_t bytes, size_t slot_bytes)
      : data_(data), bytes_(bytes), slot_bytes_(slot_bytes) {}
  ~AnonymousSlots() override { munmap(data_, bytes_); }

  absl::Status Write(int64_t slot, std::span<const std::span<uint8_t>> pieces) override {
    uint8_t* place = data_ + static_cast<size_t>(slot) * slot_bytes_;
    for (const std::span<uint8_t> piece : pieces) {
      place = std::copy(piece.begin(), piece.end(), place);
    }
    return absl::OkStatus();
  }
  absl::Status Read(int64_t slot, std::span<const std::span<uint8_t>> pieces) override {
    const uint8_t* place = data_ + static_cast<size_t>(slot) * slot_bytes_;
    for (const std::span<uint8_t> piece : pieces) {
      std::copy_n(place, piece.size(), piece.begin());
      place += piece.size();
    }
    return absl::OkStatus();
  }

 private:
  uint8_t* const data_;
  const size_t bytes_;
  const size_t slot_bytes_;
};

class FileSlots final : public SlotMemory {
 public:
  FileSlots(int file, size_t slot_bytes) : file_(file), slot_bytes_(slot_bytes) {}
  ~FileSlots() override { close(file_); }

  absl::Status Write(int64_t slot, std::span<const std::span<uint8_t>> pieces) override {
    return Transfer(slot, pieces, pwritev, "write");
  }
  absl::Status Read(int64_t slot, std::span<const std::span<uint8_t>> pieces) override {
    return Transfer(slot, pieces, preadv, "read");
  }

 private:
  using Call = ssize_t (*)(int, const iovec*, int, off_t);

  absl::Status Transfer(int64_t slot, std::span<const std::span<uint8_t>> pieces, Call call,
                        const char* verb) {
    constexpr size_t kMostPieces = 1024;  // IOV_MAX
    left_.clear();
    for (const std::span<uint8_t> piece : pieces) left_.push_back({piece.data(), piece.size()});
    auto place = static_cast<off_t>(slot * static_cast<int64_t>(slot_bytes_));
    for (size_t first = 0; first < left_.size();) {
      const auto count = static_cast<int>(std::min(left_.size() - first, kMostPieces));
      const ssize_t done = call(file_, left_.data() + first, count, place);
      if (done < 0 && errno == EINTR) continue;
      if (done <= 0) {
        return absl::UnavailableError(absl::StrFormat(
            "KV offload file: cannot %s %d bytes at %d: %s", verb, slot_bytes_, place,
            done == 0 ? "the file ends" : std::strerror(errno)));
      }
      place += done;
      for (auto rest = static_cast<size_t>(done); first < left_.size() && rest > 0;) {
        iovec& piece = left_[first];
        const size_t part = std::min(rest, piece.iov_len);
        piece.iov_base = static_cast<uint8_t*>(piece.iov_base) + part;
        piece.iov_len -= part;
        rest -= part;
        if (piece.iov_len == 0) ++first;
      }
    }
    return absl::OkStatus();
  }

  const int file_;
  const size_t slot_bytes_;
  std::vector<iovec> left_;
};

// A new file without a name, or -1 with errno.
int OpenNameless(const std::string& directory) {
  const int file = open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (file >= 0 || (errno != EOPNOTSUPP && errno != EISDIR)) return file;
  // A file system that cannot make one: it has a name for a moment.
  std::string name = directory + "/sheaf-kv-XXXXXX";
  const int named = mkostemp(name.data(), O_CLOEXEC);
  if (named >= 0) unlink(name.c_str());
  return named;
}

}  // namespace

absl::StatusOr<std::unique_ptr<SlotMemory>> MakeAnonymousSlots(int64_t slots, size_t slot_bytes) {
  const size_t bytes = static_cast<size_t>(slots) * slot_bytes;
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) {
    return absl::ResourceExhaustedError(absl::StrFormat(
        "KV offload memory: cannot map %d bytes: %s", bytes, std::strerror(errno)));
  }
  return std::make_unique<AnonymousSlots>(static_cast<uint8_t*>(data), bytes, slot_bytes);
}

absl::StatusOr<std::unique_ptr<SlotMemory>> MakeFileSlots(const std::string& directory,
                                                          int64_t slots, size_t slot_bytes) {
  const int file = OpenNameless(directory);
  if (file < 0) {
    return absl::InvalidArgumentError(
        absl::StrFormat("KV offload directory %s: cannot make a file: %s", directory,
                        std::strerror(errno)));
  }
  auto memory = std::make_unique<FileSlots>(file, slot_bytes);
  const auto bytes = static_cast<off_t>(static_cast<size_t>(slots) * slot_bytes);
  if (const int error = posix_fallocate(file, 0, bytes); error != 0) {
    return absl::ResourceExhaustedError(absl::StrFormat(
        "KV offload directory %s: cannot reserve %d bytes: %s", directory, bytes,
        std::strerror(error)));
  }
  return memory;
}

}  // namespace sheaf
