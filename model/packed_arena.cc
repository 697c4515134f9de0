#include "model/packed_arena.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "base/check.h"

namespace sheaf {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

}  // namespace

absl::StatusOr<std::shared_ptr<PackedArena>> PackedArena::Reserve(size_t bytes) {
  const size_t capacity = Rounded(bytes == 0 ? 1 : bytes);
  void* const data = ::mmap(nullptr, capacity, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("cannot reserve %d bytes for weights: %s", capacity, std::strerror(errno)));
  }
  // Advice: a small arena would waste most of its last huge page, and a refusal costs speed alone.
  if (capacity >= 8 * kHugePage) ::madvise(data, capacity, MADV_HUGEPAGE);
  return std::shared_ptr<PackedArena>(new PackedArena(static_cast<uint8_t*>(data), capacity));
}

PackedArena::~PackedArena() { ::munmap(data_, capacity_); }

void* PackedArena::Allocate(size_t bytes) {
  const size_t size = Rounded(bytes);
  const size_t offset = used_.fetch_add(size, std::memory_order_relaxed);
  SHEAF_CHECK(offset + size <= capacity_,
              "the reservation is an upper bound of what loading allocates");
  return data_ + offset;
}

}  // namespace sheaf
