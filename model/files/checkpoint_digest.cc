#include "model/files/checkpoint_digest.h"

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "base/status.h"
#include "model/files/shard_file.h"
#include "model/safetensors.h"
#include "model/verify/sha256.h"

namespace sheaf {
namespace {

constexpr uint64_t kBlocks = 64;
constexpr uint64_t kBlockBytes = 4096;
constexpr size_t kMaxThreads = 16;

// What else of the directory decides what the tensors mean.
constexpr const char* kDescriptions[] = {"config.json", "quantize_config.json",
                                         "quantization_config.json"};

void UpdateNumber(Sha256& hash, uint64_t value) {
  uint8_t bytes[8];
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<uint8_t>(value >> (8 * i));
  hash.Update(bytes);
}

void UpdateText(Sha256& hash, const std::string& text) {
  hash.Update({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

struct Range {
  uint64_t offset = 0;
  uint64_t bytes = 0;
};

// Of `data_bytes` bytes that start at `begin`.
std::vector<Range> SampledRanges(uint64_t begin, uint64_t data_bytes) {
  if (data_bytes <= kBlocks * kBlockBytes) return {{begin, data_bytes}};
  const uint64_t last = data_bytes - kBlockBytes, steps = kBlocks - 1;
  std::vector<Range> ranges;
  for (uint64_t i = 0; i < kBlocks; ++i) {
    // last * i / steps, which must not overflow.
    ranges.push_back({begin + last / steps * i + last % steps * i / steps, kBlockBytes});
  }
  return ranges;
}

absl::StatusOr<std::string> DigestOfShard(const ShardFile& file) {
  std::vector<uint8_t> bytes(std::min<uint64_t>(file.size(), 8));
  SHEAF_RETURN_IF_ERROR(file.Read(0, bytes));
  SHEAF_ASSIGN_OR_RETURN(const uint64_t header_bytes,
                         SafetensorsHeaderSize(bytes, file.size(), file.path()));
  const std::vector<Range> ranges = SampledRanges(header_bytes, file.size() - header_bytes);
  // All at once, so that a disk can work on many of them.
  for (const Range& range : ranges) file.WillNeed(range.offset, range.bytes);
  Sha256 hash;
  UpdateNumber(hash, file.size());
  bytes.resize(header_bytes);
  SHEAF_RETURN_IF_ERROR(file.Read(0, bytes));
  hash.Update(bytes);
  for (const Range& range : ranges) {
    bytes.resize(range.bytes);
    SHEAF_RETURN_IF_ERROR(file.Read(range.offset, bytes));
    hash.Update(bytes);
  }
  return hash.Hex();
}

// Empty where there is no such file.
absl::StatusOr<std::string> DigestOfDescription(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return std::string();
  SHEAF_ASSIGN_OR_RETURN(const std::unique_ptr<ShardFile> file, ShardFile::Open(path));
  if (file->size() > kMaxSafetensorsHeaderBytes) {
    return absl::FailedPreconditionError(
        absl::StrFormat("%s: wanted at most %d bytes, got %d", path, kMaxSafetensorsHeaderBytes,
                        file->size()));
  }
  std::vector<uint8_t> bytes(file->size());
  SHEAF_RETURN_IF_ERROR(file->Read(0, bytes));
  Sha256 hash;
  hash.Update(bytes);
  return hash.Hex();
}

absl::StatusOr<std::vector<std::string>> DigestsOfShards(const Checkpoint& checkpoint) {
  const size_t count = checkpoint.num_shards();
  std::vector<absl::StatusOr<std::string>> found(count, absl::UnknownError("not read"));
  std::atomic<size_t> next{0};
  const auto work = [&] {
    for (size_t i = next++; i < count; i = next++) found[i] = DigestOfShard(checkpoint.shard(i));
  };
  std::vector<std::jthread> threads;
  for (size_t i = 1; i < std::min(kMaxThreads, count); ++i) threads.emplace_back(work);
  work();
  threads.clear();
  std::vector<std::string> digests;
  for (absl::StatusOr<std::string>& digest : found) {
    SHEAF_RETURN_IF_ERROR(digest.status());
    digests.push_back(*std::move(digest));
  }
  std::sort(digests.begin(), digests.end());
  return digests;
}

}  // namespace

absl::StatusOr<uint64_t> CheckpointDigest(const Checkpoint& checkpoint) {
  Sha256 hash;
  for (const char* name : kDescriptions) {
    SHEAF_ASSIGN_OR_RETURN(const std::string digest,
                           DigestOfDescription(checkpoint.directory() + "/" + name));
    UpdateText(hash, std::string(name) + "=" + digest + "\n");
  }
  SHEAF_ASSIGN_OR_RETURN(const std::vector<std::string> shards, DigestsOfShards(checkpoint));
  for (const std::string& digest : shards) UpdateText(hash, digest + "\n");
  uint64_t value = 0;
  const std::string first = hash.Hex().substr(0, 16);
  if (!absl::SimpleHexAtoi(first, &value)) return absl::InternalError("SHA-256 gave no digest");
  return value;
}

}  // namespace sheaf
