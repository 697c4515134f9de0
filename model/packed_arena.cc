#include "model/packed_arena.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "base/check.h"
#include "base/numa_interleave.h"

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
  InterleaveOverOwnNodes(data, capacity);
  return std::shared_ptr<PackedArena>(new PackedArena(static_cast<uint8_t*>(data), capacity));
}

absl::StatusOr<std::shared_ptr<PackedArena>> PackedArena::ReserveFilled(size_t bytes,
                                                                        size_t filled) {
  const size_t huge = std::min(filled, bytes) / kHugePage * kHugePage;
  if (huge == 0) return Reserve(bytes);
  const size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t capacity = (bytes + page - 1) / page * page;
  // Huge pages lie at multiples of their size: a mapping that is one too long contains such a
  // place.
  void* const wide = ::mmap(nullptr, capacity + kHugePage, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (wide == MAP_FAILED) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("cannot reserve %d bytes for weights: %s", capacity, std::strerror(errno)));
  }
  uint8_t* const begin = static_cast<uint8_t*>(wide);
  const size_t before = (kHugePage - reinterpret_cast<uintptr_t>(begin) % kHugePage) % kHugePage;
  uint8_t* const data = begin + before;
  if (before > 0) ::munmap(begin, before);
  if (before < kHugePage) ::munmap(data + capacity, kHugePage - before);
  ::madvise(data, huge, MADV_HUGEPAGE);  // advice: a refusal costs speed alone
  InterleaveOverOwnNodes(data, capacity);
  return std::shared_ptr<PackedArena>(new PackedArena(data, capacity));
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
