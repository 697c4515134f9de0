#pragma once
// ShardFile: one file of a checkpoint, open for reading, that knows whether it is still the file
// that was opened.
//
// Bytes are read into the caller's memory and never mapped: a mapping of a file that somebody
// truncates ends the process with SIGBUS, a read returns an error.
//
// Ownership  owns the descriptor. Threads: const methods from any thread.
// Errors     kNotFound, kFailedPrecondition: cannot open or read. kResourceExhausted, kUnavailable:
//            not now (memory, descriptors, the disk). kInvalidArgument: not a regular file.
//            kDataLoss: it shrank, was written to, replaced or deleted since Open. Messages name
//            the file.
// Cost       Read: one copy out of the page cache, 3 to 10 GB/s a thread. CheckUnchanged: two
//            system calls.

#include <sys/stat.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace sheaf {

class ShardFile {
 public:
  static absl::StatusOr<std::unique_ptr<ShardFile>> Open(std::string path);

  const std::string& path() const { return path_; }  // stays where it is
  uint64_t size() const { return static_cast<uint64_t>(opened_.st_size); }

  // Fills `out` from the file's byte `offset` on.
  absl::Status Read(uint64_t offset, std::span<uint8_t> out) const;

  // Device, inode, size and time of change are those of Open, and the path still leads to the file.
  absl::Status CheckUnchanged() const;

  // Asks the kernel to read the range into the page cache soon.
  void WillNeed(uint64_t offset, uint64_t bytes) const;

 private:
  ShardFile(std::string path, UniqueFd fd, const struct stat& opened)
      : path_(std::move(path)), fd_(std::move(fd)), opened_(opened) {}

  const std::string path_;
  const UniqueFd fd_;
  const struct stat opened_;
};

}  // namespace sheaf
