#include "exchange/wire/combine_payload.h"

#include <array>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "kernels/linear/quantized_rows.h"

namespace sheaf {
namespace {

constexpr size_t kGroupBytes = 2 * kernels::kActivationGroup;
constexpr int64_t kPairsWorthThreads = 32;
constexpr size_t kMaxGroups = kMaxFrameHidden / kernels::kActivationGroup;

size_t GroupsOf(size_t hidden) {
  return (hidden + kernels::kActivationGroup - 1) / kernels::kActivationGroup;
}

void QuantizeVector(const float* vector, size_t hidden, int8_t* planes, float* scales) {
  std::array<int32_t, kMaxGroups * kernels::kSumsPerGroup> sums;  // not sent
  kernels::QuantizeRow(vector, static_cast<int>(hidden), planes, scales, sums.data());
}

}  // namespace

absl::StatusOr<CombineView> CombineView::Decode(const FrameHeader& header,
                                                std::span<const uint8_t> payload) {
  const auto wrong = [&](const char* what, uint64_t wanted, uint64_t got) {
    return absl::InvalidArgumentError(
        absl::StrCat(Describe(header), ": ", what, ": wanted ", wanted, ", got ", got));
  };
  if (header.kind != FrameKind::kCombine)
    return absl::InvalidArgumentError(Describe(header) + ": not a combine");
  if (header.element != FrameElement::kFloat32 && header.element != FrameElement::kInt16Groups)
    return wrong("element", 1, static_cast<uint64_t>(header.element));
  if (header.pairs > kMaxFramePairs) return wrong("pairs", kMaxFramePairs, header.pairs);
  if (header.hidden > kMaxFrameHidden) return wrong("hidden", kMaxFrameHidden, header.hidden);
  const uint64_t bytes = CombineBytes(header.element, header.pairs, header.hidden);
  if (header.payload_bytes != bytes) return wrong("payload_bytes", bytes, header.payload_bytes);
  if (payload.size() != bytes) return wrong("payload bytes", bytes, payload.size());
  if (reinterpret_cast<uintptr_t>(payload.data()) % sizeof(float) != 0)
    return absl::InvalidArgumentError(Describe(header) + ": payload is not 4-byte aligned");
  CombineView view;
  view.element_ = header.element;
  view.pairs_ = header.pairs;
  view.hidden_ = header.hidden;
  view.payload_ = payload;
  return view;
}

const float* CombineView::Row(size_t pair) const {
  SHEAF_CHECK(is_float32() && pair < pairs_, "rows lie in place only as float32, within the pairs");
  return reinterpret_cast<const float*>(payload_.data()) + pair * hidden_;
}

void CombineView::Expand(size_t pair, float* out) const {
  SHEAF_CHECK(pair < pairs_, "within the pairs");
  if (is_float32()) {
    std::memcpy(out, Row(pair), hidden_ * sizeof(float));
    return;
  }
  const size_t groups = GroupsOf(hidden_);
  const auto* planes =
      reinterpret_cast<const int8_t*>(payload_.data()) + pair * groups * kGroupBytes;
  const auto* scales =
      reinterpret_cast<const float*>(payload_.data() + pairs_ * groups * kGroupBytes) +
      pair * groups;
  kernels::DequantizeRow(planes, scales, static_cast<int>(hidden_), out);
}

void EncodeInt16Combine(ThreadPool& pool, const float* vectors, size_t pairs, size_t hidden,
                        uint8_t* out) {
  const size_t groups = GroupsOf(hidden);
  auto* planes = reinterpret_cast<int8_t*>(out);
  auto* scales = reinterpret_cast<float*>(out + pairs * groups * kGroupBytes);
  const auto encode = [&](int64_t pair, int) {
    const auto at = static_cast<size_t>(pair);
    QuantizeVector(vectors + at * hidden, hidden, planes + at * groups * kGroupBytes,
                   scales + at * groups);
  };
  const auto count = static_cast<int64_t>(pairs);
  if (count < kPairsWorthThreads) {
    for (int64_t pair = 0; pair < count; ++pair) encode(pair, 0);
  } else {
    pool.ParallelFor(count, encode);
  }
}

void RoundToInt16Groups(float* vector, size_t hidden) {
  thread_local std::vector<int8_t> planes;
  std::array<float, kMaxGroups> scales;
  planes.resize(GroupsOf(hidden) * kGroupBytes);
  QuantizeVector(vector, hidden, planes.data(), scales.data());
  kernels::DequantizeRow(planes.data(), scales.data(), static_cast<int>(hidden), vector);
}

}  // namespace sheaf
