#include "router/attention/step_plan.h"

#include <bit>
#include <cstring>

#include "absl/strings/str_format.h"

namespace sheaf {
namespace {

static_assert(std::endian::native == std::endian::little, "plans are little-endian");

constexpr int kWordsOfSequence = 4;

int BlocksFor(int64_t tokens, int block_size) {
  return static_cast<int>((tokens + block_size - 1) / block_size);
}

absl::Status Bad(size_t sequence, const char* what, int64_t wanted, int64_t got) {
  return absl::InvalidArgumentError(absl::StrFormat("step plan: sequence %d: %s: wanted %d, got %d",
                                                    sequence, what, wanted, got));
}

}  // namespace

std::vector<uint8_t> EncodeStepPlan(std::span<const StepSequence> sequences, int block_size) {
  std::vector<int32_t> words = {static_cast<int32_t>(sequences.size())};
  for (const StepSequence& sequence : sequences) {
    const int tokens = static_cast<int>(sequence.tokens.size());
    const int blocks = BlocksFor(int64_t{sequence.first_position} + tokens, block_size);
    words.insert(words.end(),
                 {tokens, sequence.first_position, sequence.first_logit_token, blocks});
    words.insert(words.end(), sequence.tokens.begin(), sequence.tokens.end());
    words.insert(words.end(), sequence.block_table.begin(), sequence.block_table.begin() + blocks);
  }
  std::vector<uint8_t> bytes(words.size() * sizeof(int32_t));
  std::memcpy(bytes.data(), words.data(), bytes.size());
  return bytes;
}

absl::StatusOr<ReceivedStepPlan> ReceivedStepPlan::Decode(std::span<const uint8_t> bytes,
                                                          const Bounds& bounds) {
  ReceivedStepPlan plan;
  if (bytes.size() < sizeof(int32_t) || bytes.size() % sizeof(int32_t) != 0) {
    return absl::InvalidArgumentError(
        absl::StrFormat("step plan: wanted whole words, got %d bytes", bytes.size()));
  }
  plan.words_.resize(bytes.size() / sizeof(int32_t));
  std::memcpy(plan.words_.data(), bytes.data(), bytes.size());
  std::span<const int32_t> left = plan.words_;
  const int32_t count = left[0];
  left = left.subspan(1);
  if (count < 0 || static_cast<size_t>(count) > left.size() / kWordsOfSequence) {
    return absl::InvalidArgumentError(
        absl::StrFormat("step plan: %d sequences in %d words", count, left.size()));
  }
  for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
    if (left.size() < kWordsOfSequence) return Bad(i, "words", kWordsOfSequence, left.size());
    const int32_t tokens = left[0], first = left[1], first_logit = left[2], blocks = left[3];
    left = left.subspan(kWordsOfSequence);
    if (tokens < 1) return Bad(i, "tokens", 1, tokens);
    if (first < 0) return Bad(i, "first position", 0, first);
    if (int64_t{first} + tokens > bounds.max_positions) {
      return Bad(i, "positions up to", bounds.max_positions, int64_t{first} + tokens);
    }
    if (first_logit < 0 || first_logit > tokens)
      return Bad(i, "first logit token", tokens, first_logit);
    const int needed = BlocksFor(int64_t{first} + tokens, bounds.block_size);
    if (blocks != needed) return Bad(i, "blocks", needed, blocks);
    if (left.size() < static_cast<size_t>(tokens) + static_cast<size_t>(blocks)) {
      return Bad(i, "words", int64_t{tokens} + blocks, left.size());
    }
    const std::span<const int32_t> table = left.subspan(tokens, blocks);
    for (const int32_t block : table) {
      if (block < 0 || block >= bounds.num_blocks)
        return Bad(i, "blocks below", bounds.num_blocks, block);
    }
    plan.sequences_.push_back({left.first(tokens), first, table, first_logit});
    left = left.subspan(static_cast<size_t>(tokens) + static_cast<size_t>(blocks));
  }
  if (!left.empty()) {
    return absl::InvalidArgumentError(absl::StrFormat("step plan: %d words too many", left.size()));
  }
  return plan;
}

}  // namespace sheaf
