#pragma once
// Rows of activations as int16 groups, the "A16" of W4A16 on the CPU.
//
// A group is 128 consecutive inputs of one row with one float scale: x = scale * q, q in [-32639,
// 32639], held as two signed-byte planes q = 256 * hi + lo so that byte dot products (u8 x s8 ->
// i32) multiply it exactly. Rows are padded with zeros to a multiple of 128.
//
// Layout of a group (256 bytes): 128 hi bytes, then 128 lo bytes. Within a plane each run of 8
// inputs is stored in the order 0 2 4 6 1 3 5 7: a GPTQ word holds input 2b in the low and 2b+1 in
// the high nibble of byte b, so weights need no shuffling (kernels/linear/packed_w4.h).
//
// The same bytes travel to expert workers: quantizing happens once, in the router.
// Numbers    amax = max |x| of the group; scale = amax / 32512; q = round-to-even(x * (32512 /
//            amax)). amax < 1e-30 -> scale 0 and zero planes, as the reciprocal could overflow. A
//            group with a NaN or Inf gets scale NaN and zero planes.
// Threads    pure functions; callers split rows over threads.

#include <cstddef>
#include <cstdint>
#include <vector>

namespace sheaf::kernels {

inline constexpr int kActivationGroup = 128;
inline constexpr int kGroupBytes = 2 * kActivationGroup;  // of both planes
inline constexpr int kSumGranule = 32;  // `sums` are per 32 inputs, the smallest weight group
inline constexpr int kSumsPerGroup = kActivationGroup / kSumGranule;
inline constexpr float kSmallestGroupMaximum = 1e-30f;
inline constexpr int kPlaneOrder[8] = {0, 2, 4, 6, 1, 3, 5, 7};

constexpr int NumGroups(int k) { return (k + kActivationGroup - 1) / kActivationGroup; }
constexpr int PaddedK(int k) { return NumGroups(k) * kActivationGroup; }

// Borrowed view. planes [num_rows][groups][256], scales [num_rows][groups], sums
// [num_rows][groups][4].
struct QuantizedRows {
  int num_rows = 0;
  int k = 0;  // inputs before padding
  const int8_t* planes = nullptr;
  const float* scales = nullptr;
  const int32_t* sums = nullptr;  // of q over each 32 inputs

  int groups() const { return NumGroups(k); }
  const int8_t* row_planes(int row) const { return planes + size_t{kGroupBytes} * groups() * row; }
  const float* row_scales(int row) const { return scales + size_t(groups()) * row; }
  const int32_t* row_sums(int row) const { return sums + size_t(groups()) * kSumsPerGroup * row; }
};

// Owning, reusable storage for QuantizedRows; Resize keeps capacity.
class QuantizedRowsBuffer {
 public:
  void Resize(int num_rows, int k);
  QuantizedRows view() const;
  int8_t* planes() { return planes_.data(); }
  float* scales() { return scales_.data(); }
  int32_t* sums() { return sums_.data(); }
  int8_t* row_planes(size_t row) { return planes() + kGroupBytes * groups() * row; }
  float* row_scales(size_t row) { return scales() + groups() * row; }
  int32_t* row_sums(size_t row) { return sums() + kSumsPerGroup * groups() * row; }

 private:
  size_t groups() const { return static_cast<size_t>(NumGroups(k_)); }

  int num_rows_ = 0;
  int k_ = 0;
  std::vector<int8_t> planes_;
  std::vector<float> scales_;
  std::vector<int32_t> sums_;
};

// Quantizes one row x[k] into planes[groups*256], scales[groups], sums[groups*4].
void QuantizeRow(const float* x, int k, int8_t* planes, float* scales, int32_t* sums);

// Sums of received planes (the wire carries planes and scales only).
void SumRow(const int8_t* planes, int k, int32_t* sums);

// Back to float: x[i] = scale * q. Exact product of a float and an int16, rounded once.
void DequantizeRow(const int8_t* planes, const float* scales, int k, float* x);

namespace ref {
void QuantizeRow(const float* x, int k, int8_t* planes, float* scales, int32_t* sums);
void SumRow(const int8_t* planes, int k, int32_t* sums);
void DequantizeRow(const int8_t* planes, const float* scales, int k, float* x);
}  // namespace ref

}  // namespace sheaf::kernels
