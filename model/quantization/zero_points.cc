#include "model/quantization/zero_points.h"

#include <algorithm>
#include <optional>
#include <string>

#include "absl/strings/str_format.h"
#include "model/formats/formats.h"
#include "model/formats/tensor_checks.h"

namespace sheaf {
namespace {

struct StoredZero {
  int value = 0;
  int row = 0;
  int group = 0;
};

int StoredValue(const LinearPlan& plan, const uint8_t* zeros, int row, int group) {
  switch (plan.format) {
    case WeightFormat::kGptq:
      return StoredGptqZero(zeros, plan, row, group);
    case WeightFormat::kAwq:
      return AwqZero(zeros, plan, row, group);
    case WeightFormat::kIntQuantized:
      return IntQuantizedZero(zeros, plan, row, group);
    default:
      return PackQuantizedZero(zeros, plan, row, group);
  }
}

// All bytes alike, and both nibbles of a byte: nearly every file, and fast to see.
bool AllAlike(const LinearPlan& plan, std::span<const uint8_t> bytes) {
  const uint8_t first = bytes.front();
  const bool nibbles = plan.bits == 4 && plan.zeros->dtype != TensorDtype::kI8;
  if (nibbles && first >> 4 != (first & 15)) return false;
  return std::all_of(bytes.begin(), bytes.end(), [=](uint8_t byte) { return byte == first; });
}

// The first value that differs from the one of row 0, group 0; nothing where all are alike.
std::optional<StoredZero> FirstOther(const LinearPlan& plan, const uint8_t* zeros, int value) {
  for (int group = 0; group < plan.groups; ++group) {
    for (int row = 0; row < plan.n; ++row) {
      const int stored = StoredValue(plan, zeros, row, group);
      if (stored != value) return StoredZero{stored, row, group};
    }
  }
  return std::nullopt;
}

absl::Status CheckRange(const LinearPlan& plan, std::span<const uint8_t> bytes) {
  if (plan.bits == 8 || plan.zeros->dtype != TensorDtype::kI8) return absl::OkStatus();
  for (size_t i = 0; i < bytes.size(); ++i) {
    const auto value = static_cast<int8_t>(bytes[i]);
    if (value < -8 || value > 7) {
      return TensorError(*plan.zeros, "zero points in -8..7",
                         absl::StrFormat("%d at output row %d, group %d", value,
                                         i / static_cast<size_t>(plan.groups),
                                         i % static_cast<size_t>(plan.groups)));
    }
  }
  return absl::OkStatus();
}

absl::Status Contradiction(const LinearPlan& plan, int first, const StoredZero& at) {
  const bool gptq = plan.format == WeightFormat::kGptq;
  const int symmetric = plan.symmetric_zero();
  const int offset = plan.zeros->dtype == TensorDtype::kI8 ? symmetric : 0;
  const std::string wanted = offset != 0 ? "0"
                             : gptq      ? absl::StrFormat("%d or %d", symmetric - 1, symmetric)
                                         : absl::StrFormat("%d", symmetric);
  return TensorError(
      *plan.zeros,
      absl::StrFormat("%s everywhere, as %s", wanted, plan.claim.source),
      absl::StrFormat("%d at output row %d, group %d (%d at row 0, group 0)", at.value - offset,
                      at.row, at.group, first - offset));
}

}  // namespace

absl::StatusOr<ZeroPoints> DecideZeroPoints(const LinearPlan& plan,
                                            std::span<const uint8_t> bytes) {
  if (plan.zeros == nullptr) return ZeroPoints::kSymmetric;
  if (absl::Status range = CheckRange(plan, bytes); !range.ok()) return range;
  const bool gptq = plan.format == WeightFormat::kGptq;
  const int value = StoredValue(plan, bytes.data(), 0, 0);
  std::optional<StoredZero> other;
  if (!AllAlike(plan, bytes)) other = FirstOther(plan, bytes.data(), value);
  const int symmetric = plan.symmetric_zero();
  const int expected = plan.zero_points == ZeroPoints::kMinusOne ? symmetric - 1 : symmetric;
  if (!other && value == expected) return ZeroPoints::kSymmetric;
  if (!other && gptq && (value == symmetric || value == symmetric - 1)) {
    const bool literal = plan.claim.symmetric == false && plan.claim.convention_said;
    return literal ? plan.zero_points : ZeroPoints::kSymmetric;
  }
  if (plan.claim.symmetric != true) return plan.zero_points;
  if (!other && gptq && value == 0) return ZeroPoints::kSymmetric;
  return Contradiction(plan, value, other.value_or(StoredZero{value, 0, 0}));
}

}  // namespace sheaf
