#pragma once
// KvMemory: how much the KV cache may take of a machine, beside the weights that are kept on it.
//
// A cache costs memory as it fills, so one that cannot fit would be found out under load, by the
// kernel, which ends the process. Hence it is held against the limit when the process starts.
//
// Reserve    a sixteenth of the limit, at least 64 MiB and at most 4 GiB: scratch, text, requests,
//            connections, and what the system keeps.
// Threads    pure.
// Errors     kInvalidArgument: it does not fit; names what was wanted, the limit and what else takes
//            memory.

#include <cstdint>

#include "absl/status/statusor.h"
#include "base/memory_limits.h"

namespace sheaf {

inline constexpr int64_t kAutoKvMemory = -1;  // what is left

uint64_t MemoryReserve(uint64_t limit_bytes);

// Bytes for the cache: `wanted`, or with kAutoKvMemory what is free now less weights and reserve.
// weight_bytes: of every process of this server on this machine; not loaded yet.
absl::StatusOr<int64_t> KvMemory(int64_t wanted, uint64_t weight_bytes, const MemoryLimits& limits);

}  // namespace sheaf
