#pragma once
// MemoryFile and MappedFile: anonymous memory (memfd) that is handed to other processes as a
// descriptor. It has no name, so nothing is left behind by a process that dies, and it is not
// charged to the size of /dev/shm.
//
// MemoryFile   the maker's: read and write, grows.
// MappedFile   a peer's: maps what it was handed. It insists on the seal against shrinking, without
//              which a peer could make every read here a SIGBUS.
//
// Ownership  each unmaps its memory when destroyed; the pages live as long as anybody maps them.
// Threads    one at a time.
// Errors     kResourceExhausted: no memory or no descriptor; kInvalidArgument: a descriptor that is
//            no sealed memory file, or is too small.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace sheaf {

// Unmaps.
class MemoryMapping {
 public:
  MemoryMapping() = default;
  MemoryMapping(uint8_t* data, size_t bytes) : data_(data), bytes_(bytes) {}
  MemoryMapping(MemoryMapping&& other) noexcept;
  MemoryMapping& operator=(MemoryMapping&& other) noexcept;
  ~MemoryMapping() { Unmap(); }

  uint8_t* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  void Unmap();
  uint8_t* data_ = nullptr;
  size_t bytes_ = 0;
};

class MemoryFile {
 public:
  // `name` is what /proc/<pid>/maps shows.
  static absl::StatusOr<MemoryFile> Create(const char* name, size_t bytes);

  int fd() const { return fd_.get(); }
  uint8_t* data() const { return mapping_.data(); }
  size_t bytes() const { return mapping_.bytes(); }

  // At least `bytes`, with the contents kept; data() may move. The pages are allocated here and
  // now, so that a full machine is an error and not a SIGBUS.
  absl::Status GrowTo(size_t bytes);

 private:
  UniqueFd fd_;
  MemoryMapping mapping_;
};

class MappedFile {
 public:
  enum class Access { kRead, kReadWrite };
  // At least min_bytes.
  static absl::StatusOr<MappedFile> Map(UniqueFd fd, size_t min_bytes, Access access);

  uint8_t* data() const { return mapping_.data(); }
  size_t bytes() const { return mapping_.bytes(); }

  // Maps again where the maker has grown the file. data() may move; what it was before stays mapped
  // until ForgetOldMappings.
  absl::Status ExtendTo(size_t bytes);
  void ForgetOldMappings() { old_mappings_.clear(); }

 private:
  UniqueFd fd_;
  Access access_ = Access::kRead;
  MemoryMapping mapping_;
  std::vector<MemoryMapping> old_mappings_;
};

}  // namespace sheaf
