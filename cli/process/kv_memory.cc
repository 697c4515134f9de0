#include "cli/process/kv_memory.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_format.h"

namespace sheaf {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

uint64_t Less(uint64_t bytes, uint64_t taken) { return bytes > taken ? bytes - taken : 0; }

}  // namespace

uint64_t MemoryReserve(uint64_t limit_bytes) {
  return std::clamp(limit_bytes / 16, 64 * kMiB, 4096 * kMiB);
}

absl::StatusOr<int64_t> KvMemory(int64_t wanted, uint64_t weight_bytes,
                                 const MemoryLimits& limits) {
  const uint64_t reserve = MemoryReserve(limits.bytes);
  const bool is_auto = wanted == kAutoKvMemory;
  if (limits.bytes == std::numeric_limits<uint64_t>::max()) {
    if (!is_auto) return wanted;
    return absl::InvalidArgumentError(
        "--kv-cache-memory-bytes: auto: the system does not say how much memory there is");
  }
  const uint64_t left =
      Less(is_auto ? limits.free_bytes : limits.bytes, weight_bytes + reserve);
  if (left > 0 && (is_auto || static_cast<uint64_t>(wanted) <= left)) {
    return is_auto ? static_cast<int64_t>(left) : wanted;
  }
  return absl::InvalidArgumentError(absl::StrFormat(
      "--kv-cache-memory-bytes: wanted %s, but %s is %d MiB (%d MiB free), of which weights take %d "
      "MiB and %d MiB are kept for everything else: %d MiB are left",
      is_auto ? "what is left" : absl::StrFormat("%d MiB", wanted / int64_t{kMiB}), limits.what,
      limits.bytes / kMiB, limits.free_bytes / kMiB, weight_bytes / kMiB, reserve / kMiB,
      left / kMiB));
}

}  // namespace sheaf
