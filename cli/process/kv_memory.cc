#include "cli/process/kv_memory.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_format.h"
#include "base/status.h"

namespace sheaf {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

uint64_t Less(uint64_t bytes, uint64_t taken) { return bytes > taken ? bytes - taken : 0; }

absl::Status SeeThatWorkersFit(uint64_t bytes, const MemoryLimits& limits) {
  const uint64_t reserve = MemoryReserve(limits.bytes);
  if (bytes <= Less(limits.bytes, reserve)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("--numa: the workers on it take %d MiB of weights, but %s is %d MiB, of "
                      "which %d MiB are kept "
                      "for everything else",
                      bytes / kMiB, limits.what, limits.bytes / kMiB, reserve / kMiB));
}

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
  return absl::InvalidArgumentError(
      absl::StrFormat("--kv-cache-memory-bytes: wanted %s, but %s is %d MiB (%d MiB free), of "
                      "which weights take %d "
                      "MiB and %d MiB are kept for everything else: %d MiB are left",
                      is_auto ? "what is left" : absl::StrFormat("%d MiB", wanted / int64_t{kMiB}),
                      limits.what, limits.bytes / kMiB, limits.free_bytes / kMiB,
                      weight_bytes / kMiB, reserve / kMiB, left / kMiB));
}

absl::StatusOr<int64_t> KvMemoryOnNodes(int64_t wanted, const ServerWeights& weights,
                                        std::span<const NodeLoad> loads) {
  int64_t result = wanted == kAutoKvMemory ? std::numeric_limits<int64_t>::max() : wanted;
  for (const NodeLoad& load : loads) {
    uint64_t bytes = weights.rank_bytes * static_cast<uint64_t>(load.ranks);
    for (const int worker : load.workers) {
      const size_t i = static_cast<size_t>(worker);
      if (i < weights.worker_bytes.size()) bytes += weights.worker_bytes[i];
    }
    if (load.ranks == 0) {  // of the cache nothing is here
      SHEAF_RETURN_IF_ERROR(SeeThatWorkersFit(bytes, load.memory));
      continue;
    }
    const double share = weights.kv_share * load.ranks;
    const int64_t here = wanted == kAutoKvMemory
                             ? wanted
                             : static_cast<int64_t>(static_cast<double>(wanted) * share);
    SHEAF_ASSIGN_OR_RETURN(const int64_t fits, KvMemory(here, bytes, load.memory));
    if (wanted == kAutoKvMemory) {
      result = std::min(result, static_cast<int64_t>(static_cast<double>(fits) / share));
    }
  }
  return result;
}

}  // namespace sheaf
