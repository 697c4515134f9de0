#include "exchange/link/memory_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/status.h"

namespace sheaf {
namespace {

constexpr size_t kPageBytes = 4096;
// Fresh pages are dear: grow by half at least.
constexpr size_t kGrowthNumerator = 3;
constexpr size_t kGrowthDenominator = 2;

absl::Status SystemError(const char* what) {
  return absl::ResourceExhaustedError(
      absl::StrFormat("shared memory: %s: %s", what, std::strerror(errno)));
}

absl::StatusOr<MemoryMapping> MapWhole(int fd, size_t bytes, int protection) {
  void* at = mmap(nullptr, bytes, protection, MAP_SHARED, fd, 0);
  if (at == MAP_FAILED) return SystemError("mmap");
  return MemoryMapping(static_cast<uint8_t*>(at), bytes);
}

}  // namespace

MemoryMapping::MemoryMapping(MemoryMapping&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

MemoryMapping& MemoryMapping::operator=(MemoryMapping&& other) noexcept {
  if (this != &other) {
    Unmap();
    data_ = std::exchange(other.data_, nullptr);
    bytes_ = std::exchange(other.bytes_, 0);
  }
  return *this;
}

void MemoryMapping::Unmap() {
  if (data_ != nullptr) munmap(data_, bytes_);
}

absl::StatusOr<MemoryFile> MemoryFile::Create(const char* name, size_t bytes) {
  MemoryFile file;
  file.fd_ = UniqueFd(memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file.fd_.valid()) return SystemError("memfd_create");
  if (fcntl(file.fd_.get(), F_ADD_SEALS, F_SEAL_SHRINK) != 0) return SystemError("F_ADD_SEALS");
  SHEAF_RETURN_IF_ERROR(file.GrowTo(bytes));
  return file;
}

absl::Status MemoryFile::GrowTo(size_t wanted) {
  if (wanted <= mapping_.bytes()) return absl::OkStatus();
  const size_t at_least =
      std::max(wanted, mapping_.bytes() / kGrowthDenominator * kGrowthNumerator);
  const size_t size = (at_least + kPageBytes - 1) / kPageBytes * kPageBytes;
  if (fallocate(fd_.get(), 0, 0, static_cast<off_t>(size)) != 0) return SystemError("fallocate");
  SHEAF_ASSIGN_OR_RETURN(mapping_, MapWhole(fd_.get(), size, PROT_READ | PROT_WRITE));
  return absl::OkStatus();
}

absl::StatusOr<MappedFile> MappedFile::Map(UniqueFd fd, size_t min_bytes, Access access) {
  const int seals = fcntl(fd.get(), F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) {
    return absl::InvalidArgumentError(
        "shared memory: the peer's descriptor is not a memory file sealed against shrinking");
  }
  MappedFile file;
  file.fd_ = std::move(fd);
  file.access_ = access;
  SHEAF_RETURN_IF_ERROR(file.ExtendTo(min_bytes));
  return file;
}

absl::Status MappedFile::ExtendTo(size_t wanted) {
  if (wanted <= mapping_.bytes()) return absl::OkStatus();
  struct stat facts {};
  if (fstat(fd_.get(), &facts) != 0) return SystemError("fstat");
  const size_t size = static_cast<size_t>(facts.st_size);
  if (size < wanted) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "shared memory: the peer's memory file: wanted %d bytes, got %d", wanted, size));
  }
  const int protection = access_ == Access::kRead ? PROT_READ : PROT_READ | PROT_WRITE;
  SHEAF_ASSIGN_OR_RETURN(MemoryMapping larger, MapWhole(fd_.get(), size, protection));
  if (mapping_.data() != nullptr) old_mappings_.push_back(std::move(mapping_));
  mapping_ = std::move(larger);
  return absl::OkStatus();
}

}  // namespace sheaf
