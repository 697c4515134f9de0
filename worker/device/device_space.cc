#include "worker/device/device_space.h"

#include <algorithm>
#include <iterator>

#include "base/check.h"

namespace sheaf {
namespace {

uint64_t Rounded(uint64_t bytes) { return (std::max<uint64_t>(bytes, 1) + 255) / 256 * 256; }

}  // namespace

DeviceSpace::DeviceSpace(uint64_t bytes) : free_bytes_(bytes / 256 * 256) {
  if (free_bytes_ > 0) gaps_[0] = free_bytes_;
}

std::optional<uint64_t> DeviceSpace::Take(uint64_t bytes) {
  const uint64_t wanted = Rounded(bytes);
  absl::MutexLock lock(&mutex_);
  for (auto gap = gaps_.begin(); gap != gaps_.end(); ++gap) {
    const auto [at, size] = *gap;
    if (size < wanted) continue;
    gaps_.erase(gap);
    if (size > wanted) gaps_[at + wanted] = size - wanted;
    free_bytes_ -= wanted;
    return at;
  }
  return std::nullopt;
}

void DeviceSpace::GiveBack(uint64_t at, uint64_t bytes) {
  uint64_t size = Rounded(bytes);
  absl::MutexLock lock(&mutex_);
  free_bytes_ += size;
  auto next = gaps_.lower_bound(at);
  SHEAF_CHECK(next == gaps_.end() || at + size <= next->first, "what goes back was taken");
  if (next != gaps_.end() && at + size == next->first) {
    size += next->second;
    next = gaps_.erase(next);
  }
  if (next != gaps_.begin()) {
    const auto before = std::prev(next);
    SHEAF_CHECK(before->first + before->second <= at, "what goes back was taken");
    if (before->first + before->second == at) {
      before->second += size;
      return;
    }
  }
  gaps_[at] = size;
}

uint64_t DeviceSpace::free_bytes() const {
  absl::MutexLock lock(&mutex_);
  return free_bytes_;
}

}  // namespace sheaf
