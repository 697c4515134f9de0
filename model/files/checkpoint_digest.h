#pragma once
// A digest that tells one checkpoint from another without reading all of it.
//
// It covers config.json and the files that may describe the quantization beside it, and of every
// shard the size, the whole safetensors header and 64 blocks of 4 KiB, spread evenly over the
// tensor bytes from the first to the last; their places depend on sizes alone. It does not depend
// on names of shards, their order or the directory. Weights of another training or quantization
// differ nearly everywhere, so they differ in what is sampled; a single flipped bit elsewhere is
// not seen.
//
// Threads    starts a few of its own, which end before it returns.
// Errors     those of ShardFile::Read, and kFailedPrecondition or kNotFound for config.json; each
//            names the file.
// Cost       headers and 256 KiB a shard: tens of milliseconds for 56 shards.

#include <cstdint>

#include "absl/status/statusor.h"
#include "model/checkpoint.h"

namespace sheaf {

// The first 64 bits of a SHA-256.
absl::StatusOr<uint64_t> CheckpointDigest(const Checkpoint& checkpoint);

}  // namespace sheaf
