#pragma once
// KvMemory: how much the KV cache may take of a machine, beside the weights that are kept on it.
//
// A cache costs memory as it fills, so one that cannot fit would be found out under load, by the
// kernel, which ends the process. Hence it is held against the limit when the process starts.
//
// Reserve    a sixteenth of the limit, at least 64 MiB and at most 4 GiB: scratch, text, requests,
//            connections, and what the system keeps.
// Threads    pure.
// Errors     kInvalidArgument: it does not fit; names what was wanted, the limit and what else
//            takes memory.

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "base/memory_limits.h"

namespace sheaf {

inline constexpr int64_t kAutoKvMemory = -1;  // what is left

uint64_t MemoryReserve(uint64_t limit_bytes);

// Bytes for the cache: `wanted`, or with kAutoKvMemory what is free now less weights and reserve.
// weight_bytes: of every process of this server on this machine; not loaded yet.
absl::StatusOr<int64_t> KvMemory(int64_t wanted, uint64_t weight_bytes, const MemoryLimits& limits);

// What of a server takes memory from one NUMA node alone.
struct NodeLoad {
  MemoryLimits memory;       // of the node
  int ranks = 0;             // attention ranks there, any of them
  std::vector<int> workers;  // by number
};

struct ServerWeights {
  uint64_t rank_bytes = 0;             // of the largest attention rank
  std::vector<uint64_t> worker_bytes;  // by number
  double kv_share = 1;                 // of the cache that a rank holds
};

// The same where processes are bound to nodes: what fits on all of them.
absl::StatusOr<int64_t> KvMemoryOnNodes(int64_t wanted, const ServerWeights& weights,
                                        std::span<const NodeLoad> loads);

}  // namespace sheaf
