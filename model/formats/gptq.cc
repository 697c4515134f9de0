// GPTQ v1 and v2, and AutoRound's packing formats with the same words.
//
// qweight word (k/8, n) holds 8 inputs of output n, low nibble first: already a word of the packed
// layout, so repacking moves 64-byte runs (8-bit words: formats/byte_codes.h). Sizes and shapes:
// docs/weight_formats.md.

#include <algorithm>
#include <cstring>
#include <string_view>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "kernels/linear/packed_w4.h"
#include "model/formats/byte_codes.h"
#include "model/formats/formats.h"
#include "model/formats/tensor_checks.h"

namespace sheaf {
namespace {

using kernels::kRowBlock;

constexpr int kTileSteps = 8;  // 512 contiguous bytes a row block, from 8 source streams

// AutoRound names its convention in packing_format, GPTQModel in checkpoint_format.
absl::StatusOr<ZeroPoints> ZeroConvention(const QuantizationHints& hints, const TensorInfo& zeros) {
  const std::string_view packing = hints.packing_format;
  if (!packing.empty()) {
    if (packing == "auto_round:auto_gptq" || packing == "auto_round:gptq")
      return ZeroPoints::kMinusOne;
    if (packing == "auto_round" || packing == "auto_round:gptqmodel" ||
        packing == "auto_round:gptq_v2" || packing == "auto_round:auto_awq") {
      return ZeroPoints::kStored;
    }
    return TensorError(zeros, "a packing_format whose zero points we know",
                       absl::StrFormat("packing_format \"%s\"", packing.substr(0, 60)));
  }
  const std::string_view format = hints.checkpoint_format;
  if (format == "gptq_v2") return ZeroPoints::kStored;
  if (format.empty() || format == "gptq" || hints.method != "gptq") return ZeroPoints::kMinusOne;
  return TensorError(zeros, "checkpoint_format gptq or gptq_v2",
                     absl::StrFormat("\"%s\"", format.substr(0, 60)));
}

// The shape of the words tells their bits.
absl::Status PlanWords(const TensorInfo& words, LinearPlan& plan) {
  SHEAF_RETURN_IF_ERROR(CheckDtype(words, kWordDtypes));
  const int64_t n = plan.n, k = plan.k;
  std::string note;
  if (words.shape.size() == 2 && words.shape[1] == n && (words.shape[0] * 32) % k == 0) {
    const int64_t bits = words.shape[0] * 32 / k;
    plan.bits = bits == 8 ? 8 : 4;
    if (bits == plan.bits) return absl::OkStatus();
    note = absl::StrFormat(" (%d-bit weights; only 4-bit and 8-bit ones are served)", bits);
  }
  return TensorError(words,
                     absl::StrFormat("shape %s of 4-bit words or %s of 8-bit words",
                                     ShapeString({k / 8, n}), ShapeString({k / 4, n})),
                     ShapeString(words.shape) + note);
}

int64_t ZeroWordsAGroup(const LinearPlan& plan) {
  return (plan.n + plan.codes_a_word() - 1) / plan.codes_a_word();
}

absl::Status PlanZeroPoints(const Checkpoint& checkpoint, const QuantizationHints& hints,
                            LinearPlan& plan) {
  const std::string name = plan.prefix + ".qzeros";
  plan.zeros = checkpoint.Find(name);
  if (plan.zeros == nullptr) {
    return plan.claim.symmetric == false ? RequireTensor(checkpoint, name).status()
                                         : absl::OkStatus();
  }
  SHEAF_RETURN_IF_ERROR(CheckDtype(*plan.zeros, kWordDtypes));
  SHEAF_RETURN_IF_ERROR(CheckShape(*plan.zeros, {plan.groups, ZeroWordsAGroup(plan)}));
  auto convention = ZeroConvention(hints, *plan.zeros);
  // Zero points that are told to be all alike need no convention.
  if (!convention.ok() && plan.claim.symmetric != true) return convention.status();
  plan.zero_points = convention.value_or(ZeroPoints::kMinusOne);
  plan.claim.convention_said =
      convention.ok() && (!hints.packing_format.empty() || hints.checkpoint_format == "gptq" ||
                          hints.checkpoint_format == "gptq_v2");
  return absl::OkStatus();
}

// Whole words: 16 outputs of one step are 64 contiguous bytes on both sides.
void MoveWords(const uint8_t* words, int n, const UnpackRange& range, uint32_t* nibbles) {
  const int steps = range.num_columns / 8;
  const int padded_steps = kernels::PaddedK(range.num_columns) / 8;
  const int whole_blocks = range.num_rows / kRowBlock, rest = range.num_rows % kRowBlock;
  const size_t source_stride = static_cast<size_t>(n) * sizeof(uint32_t);
  const uint8_t* const first = words + (range.first_column / 8) * source_stride +
                               static_cast<size_t>(range.first_row) * sizeof(uint32_t);
  const size_t block_words = static_cast<size_t>(padded_steps) * kRowBlock;
  for (int tile = 0; tile < steps; tile += kTileSteps) {
    const int end = std::min(steps, tile + kTileSteps);
    for (int block = 0; block < whole_blocks; ++block) {
      uint32_t* out = nibbles + block * block_words + static_cast<size_t>(tile) * kRowBlock;
      const uint8_t* in = first + tile * source_stride + static_cast<size_t>(block) * 64;
      for (int step = tile; step < end; ++step, out += kRowBlock, in += source_stride) {
        std::memcpy(out, in, 64);
      }
    }
    if (rest == 0) continue;
    for (int step = tile; step < end; ++step) {
      std::memcpy(nibbles + whole_blocks * block_words + static_cast<size_t>(step) * kRowBlock,
                  first + step * source_stride + static_cast<size_t>(whole_blocks) * 64,
                  static_cast<size_t>(rest) * sizeof(uint32_t));
    }
  }
}

// desc_act: each packed word gathers nibbles of 8 inputs from up to 8 source words.
void GatherNibbles(const uint8_t* words, int n, const UnpackRange& range,
                   const std::vector<int32_t>& permutation, uint32_t* nibbles) {
  const int padded_steps = kernels::PaddedK(range.num_columns) / 8;
  std::vector<uint32_t> line(static_cast<size_t>(range.num_rows));
  for (int step = 0; step < range.num_columns / 8; ++step) {
    std::fill(line.begin(), line.end(), 0u);
    for (int j = 0; j < 8; ++j) {
      const int input = range.first_column + permutation[8 * step + j];
      const uint8_t* const in =
          words + (static_cast<size_t>(input / 8) * n + range.first_row) * sizeof(uint32_t);
      const int from = 4 * (input % 8), to = 4 * j;
      for (int row = 0; row < range.num_rows; ++row) {
        line[row] |= ((LoadWord(in, static_cast<size_t>(row)) >> from) & 15u) << to;
      }
    }
    for (int row = 0; row < range.num_rows; row += kRowBlock) {
      std::memcpy(
          nibbles + (static_cast<size_t>(row / kRowBlock) * padded_steps + step) * kRowBlock,
          &line[row], sizeof(uint32_t) * std::min(kRowBlock, range.num_rows - row));
    }
  }
}

}  // namespace

absl::Status PlanGptq(const Checkpoint& checkpoint, const QuantizationHints& hints,
                      LinearPlan& plan) {
  plan.format = WeightFormat::kGptq;
  SHEAF_RETURN_IF_ERROR(PlanWords(*plan.codes, plan));
  SHEAF_ASSIGN_OR_RETURN(plan.scales, RequireTensor(checkpoint, plan.prefix + ".scales"));
  SHEAF_RETURN_IF_ERROR(CheckDtype(*plan.scales, kFloatDtypes));
  const int64_t groups = plan.scales->shape.size() == 2 ? plan.scales->shape[0] : 0;
  plan.group_size = GroupSize(plan.k, groups, plan.group_size);
  if (plan.group_size == 0 || plan.scales->shape[1] != plan.n) {
    return TensorError(
        *plan.scales,
        absl::StrFormat("shape [groups, %d], groups of a multiple of 32 of %d inputs", plan.n,
                        plan.k),
        ShapeString(plan.scales->shape));
  }
  plan.groups = static_cast<int>(groups);
  SHEAF_RETURN_IF_ERROR(PlanZeroPoints(checkpoint, hints, plan));
  plan.g_idx = checkpoint.Find(plan.prefix + ".g_idx");
  if (plan.g_idx != nullptr) {
    SHEAF_RETURN_IF_ERROR(CheckDtype(*plan.g_idx, {TensorDtype::kI32}));
    SHEAF_RETURN_IF_ERROR(CheckShape(*plan.g_idx, {plan.k}));
  }
  return absl::OkStatus();
}

void UnpackGptq(const uint8_t* words, const LinearPlan& plan, const UnpackRange& range,
                const WeightGroups& groups, uint32_t* codes) {
  if (plan.bits == 8) {
    UnpackColumnsOfBytes(words, plan.n, plan.k, range, groups, codes);
  } else if (groups.permutation.empty()) {
    MoveWords(words, plan.n, range, codes);
  } else {
    GatherNibbles(words, plan.n, range, groups.permutation, codes);
  }
}

int StoredGptqZero(const uint8_t* zeros, const LinearPlan& plan, int row, int group) {
  return CodeOfWords(zeros + group * ZeroWordsAGroup(plan) * sizeof(uint32_t), row, plan.bits);
}

int GptqZero(const uint8_t* zeros, const LinearPlan& plan, int row, int group) {
  const int stored = StoredGptqZero(zeros, plan, row, group);
  const int mask = (1 << plan.bits) - 1;
  return plan.zero_points == ZeroPoints::kMinusOne ? (stored + 1) & mask : stored;
}

}  // namespace sheaf
