#include "model/files/shard_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"

namespace sheaf {
namespace {

absl::Status FileError(const std::string& path, const char* action) {
  const std::string message =
      absl::StrFormat("%s: cannot %s: %s", path, action, std::strerror(errno));
  switch (errno) {
    case ENOENT:
    case ENOTDIR:
      return absl::NotFoundError(message);
    case EMFILE:
    case ENFILE:
    case ENOMEM:
      return absl::ResourceExhaustedError(message);
    case EIO:
    case ESTALE:
    case ETIMEDOUT:
      return absl::UnavailableError(message);
    default:
      return absl::FailedPreconditionError(message);
  }
}

absl::Status Changed(const std::string& path, const std::string& how) {
  return absl::DataLossError(
      absl::StrFormat("%s: changed while it was being loaded: %s", path, how));
}

bool SameTime(const timespec& a, const timespec& b) {
  return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ShardFile>> ShardFile::Open(std::string path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return FileError(path, "open");
  struct stat info = {};
  if (::fstat(fd.get(), &info) != 0) return FileError(path, "stat");
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrFormat("%s: not a regular file", path));
  }
  return std::unique_ptr<ShardFile>(new ShardFile(std::move(path), std::move(fd), info));
}

absl::Status ShardFile::Read(uint64_t offset, std::span<uint8_t> out) const {
  for (size_t done = 0; done < out.size();) {
    const ssize_t got = ::pread(fd_.get(), out.data() + done, out.size() - done,
                                static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return FileError(path_, "read");
    if (got == 0) {
      return Changed(path_, absl::StrFormat("wanted %d bytes at %d, it ends at %d", out.size(),
                                            offset, offset + done));
    }
    done += static_cast<size_t>(got);
  }
  return absl::OkStatus();
}

absl::Status ShardFile::CheckUnchanged() const {
  struct stat now = {};
  if (::fstat(fd_.get(), &now) != 0) return FileError(path_, "stat");
  if (now.st_size != opened_.st_size) {
    return Changed(path_, absl::StrFormat("%d bytes when it was opened, %d now", opened_.st_size,
                                          now.st_size));
  }
  if (!SameTime(now.st_mtim, opened_.st_mtim)) return Changed(path_, "it was written to");
  if (::stat(path_.c_str(), &now) != 0) {
    if (errno == ENOENT || errno == ENOTDIR) return Changed(path_, "it was deleted or moved");
    return FileError(path_, "stat");
  }
  if (now.st_dev != opened_.st_dev || now.st_ino != opened_.st_ino) {
    return Changed(path_, "another file has its name now");
  }
  return absl::OkStatus();
}

void ShardFile::WillNeed(uint64_t offset, uint64_t bytes) const {
  if (bytes == 0) return;  // to the kernel, the rest of the file
  // Advice: a failure costs speed alone.
  ::posix_fadvise(fd_.get(), static_cast<off_t>(offset), static_cast<off_t>(bytes),
                  POSIX_FADV_WILLNEED);
}

}  // namespace sheaf
