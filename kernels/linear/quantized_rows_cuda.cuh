#pragma once
// kernels/linear/quantized_rows.h on a device: the same groups, bit by bit.
//
// Threads    a group is one warp's; lane l has its word l of a plane: inputs 8 (l / 2) + l % 2 +
//            {0, 2, 4, 6}.

#include "kernels/cuda/device.h"
#include "kernels/linear/quantized_rows.h"

namespace sheaf::kernels::cuda {

inline constexpr uint32_t kNanBits = 0x7fc00000u;

// A view of rows in a device's memory: planes [rows][groups][256], scales [rows][groups], sums
// [rows][groups][4].
struct DeviceRows {
  int8_t* planes = nullptr;  // 16-byte aligned
  float* scales = nullptr;
  int32_t* sums = nullptr;  // 16-byte aligned
  int32_t groups = 0;
};

// The input of a group that is value j of the lane.
SHEAF_DEVICE int InputOfLane(int lane, int j) { return lane / 2 * 8 + lane % 2 + 2 * j; }

SHEAF_DEVICE int32_t SumOverGranule(int32_t sum) {  // 8 lanes, 32 inputs
#pragma unroll
  for (int lanes = 1; lanes < 8; lanes *= 2) {
    sum += static_cast<int32_t>(ShuffleXor(static_cast<uint32_t>(sum), lanes));
  }
  return sum;
}

// Quantizes one group, value j of the lane being input InputOfLane(lane, j); absent inputs are 0.
SHEAF_DEVICE void QuantizeGroup(const float (&values)[4], int lane, const DeviceRows& to,
                                int64_t row, int group) {
  // As integers, NaN and Inf are above every finite magnitude.
  uint32_t largest = 0;
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const uint32_t magnitude = FloatBits(values[j]) & 0x7fffffffu;
    largest = magnitude > largest ? magnitude : largest;
  }
#pragma unroll
  for (int lanes = 1; lanes < kWarpLanes; lanes *= 2) {
    const uint32_t other = ShuffleXor(largest, lanes);
    largest = other > largest ? other : largest;
  }
  const float maximum = BitsToFloat(largest);
  const bool finite = largest < 0x7f800000u;
  float scale = finite ? 0.0f : BitsToFloat(kNanBits);
  uint32_t high_word = 0, low_word = 0;
  int32_t sum = 0;
  if (finite && maximum >= kSmallestGroupMaximum) {
    scale = Divide(maximum, 32512.0f);
    const float inverse = Divide(32512.0f, maximum);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int32_t q = RoundToInt(Multiply(values[j], inverse));
      const int32_t high = (q + 128) >> 8;
      high_word |= (static_cast<uint32_t>(high) & 0xffu) << (8 * j);
      low_word |= (static_cast<uint32_t>(q - 256 * high) & 0xffu) << (8 * j);
      sum += q;
    }
  }
  sum = SumOverGranule(sum);
  const int64_t at = row * to.groups + group;
  uint32_t* planes = reinterpret_cast<uint32_t*>(to.planes + at * kGroupBytes);
  planes[lane] = high_word;
  planes[kWarpLanes + lane] = low_word;
  if (lane % 8 == 0) to.sums[at * kSumsPerGroup + lane / 8] = sum;
  if (lane == 0) to.scales[at] = scale;
}

SHEAF_DEVICE int32_t SumOfBytes(uint32_t word) {
  int32_t sum = 0;
#pragma unroll
  for (int j = 0; j < 4; ++j) sum += static_cast<int8_t>(word >> (8 * j));
  return sum;
}

inline constexpr int kSumThreads = 256;

// The sums of rows whose planes have arrived; any grid.
SHEAF_KERNEL(kSumThreads, 1) SumRows(DeviceRows rows, int64_t num_rows) {
  const int lane = ThreadIndex() % kWarpLanes;
  const int warps = kSumThreads / kWarpLanes;
  const int64_t stride = int64_t{GridBlocks()} * warps;
  for (int64_t group = int64_t{BlockIndex()} * warps + ThreadIndex() / kWarpLanes;
       group < num_rows * rows.groups; group += stride) {
    const uint32_t* planes = reinterpret_cast<const uint32_t*>(rows.planes + group * kGroupBytes);
    const int32_t sum =
        SumOverGranule(256 * SumOfBytes(planes[lane]) + SumOfBytes(planes[kWarpLanes + lane]));
    if (lane % 8 == 0) rows.sums[group * kSumsPerGroup + lane / 8] = sum;
  }
}

// One group of a row in another order, packed input i of `to` being input permutation[i] of `from`:
// widened to float and quantized again (docs/decisions/0004-act-order-is-requantized.md).
SHEAF_DEVICE void ReorderGroup(const DeviceRows& from, int64_t from_row, const int32_t* permutation,
                               int k, const DeviceRows& to, int64_t to_row, int group, int lane) {
  float values[4];
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const int input = group * kActivationGroup + InputOfLane(lane, j);
    values[j] = 0.0f;
    if (input < k) {
      const int source = permutation[input];
      const int64_t at = from_row * from.groups + source / kActivationGroup;
      const int slot = source % 2 * 4 + source % 8 / 2;  // in kPlaneOrder
      const int8_t* high =
          from.planes + at * kGroupBytes + source % kActivationGroup / 8 * 8 + slot;
      values[j] = Multiply(from.scales[at], IntToFloat(256 * high[0] + high[kActivationGroup]));
    }
  }
  QuantizeGroup(values, lane, to, to_row, group);
}

}  // namespace sheaf::kernels::cuda
