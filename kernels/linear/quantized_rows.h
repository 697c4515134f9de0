#pragma once
// Rows of activations as integers in groups of 128 consecutive inputs: 16 bits, the "A16" of W4A16
// on the CPU, or 8 bits (--activation-bits 8). Rows are padded with zeros to a multiple of 128.
//
// 16 bits    a group has one float scale: x = scale * q, q in [-32639, 32639], held as two
//            signed-byte planes q = 256 * hi + lo so that byte dot products (u8 x s8 -> i32)
//            multiply it exactly. 256 bytes: 128 hi bytes, then 128 lo bytes.
// 8 bits     a group has a scale for each 32 inputs, q in [-127, 127]. One plane, 128 bytes.
//
// Within a plane each run of 8 inputs is stored in the order 0 2 4 6 1 3 5 7: a GPTQ word holds
// input 2b in the low and 2b+1 in the high nibble of byte b, so weights need no shuffling
// (kernels/linear/packed_w4.h).
//
// The same bytes travel to expert workers: quantizing happens once, in the router.
// Numbers    amax = max |x| of what shares a scale; scale = amax / 32512; q = round-to-even(x *
//            (32512 / amax)); of 8 bits 127 instead of 32512. amax < 1e-30 -> scale 0 and zero
//            planes, as the reciprocal could overflow. NaN or Inf: scale NaN and zero planes.
// Threads    pure functions; callers split rows over threads.

#include <cstddef>
#include <cstdint>
#include <vector>

namespace sheaf::kernels {

inline constexpr int kActivationGroup = 128;
inline constexpr int kGroupBytes = 2 * kActivationGroup;  // of both planes, 16 bits
inline constexpr int kSumGranule = 32;  // `sums` are per 32 inputs, the smallest weight group
inline constexpr int kSumsPerGroup = kActivationGroup / kSumGranule;
inline constexpr float kSmallestGroupMaximum = 1e-30f;
inline constexpr int kPlaneOrder[8] = {0, 2, 4, 6, 1, 3, 5, 7};

constexpr int NumGroups(int k) { return (k + kActivationGroup - 1) / kActivationGroup; }
constexpr int PaddedK(int k) { return NumGroups(k) * kActivationGroup; }

enum class ActivationBits : uint8_t { k8 = 8, k16 = 16 };
constexpr int GroupBytes(ActivationBits bits) {
  return bits == ActivationBits::k8 ? kActivationGroup : kGroupBytes;
}
constexpr int ScalesPerGroup(ActivationBits bits) {
  return bits == ActivationBits::k8 ? kSumsPerGroup : 1;
}

// Borrowed view. planes [num_rows][groups][GroupBytes], scales [num_rows][groups][ScalesPerGroup],
// sums [num_rows][groups][4].
struct QuantizedRows {
  int num_rows = 0;
  int k = 0;  // inputs before padding
  ActivationBits bits = ActivationBits::k16;
  const int8_t* planes = nullptr;
  const float* scales = nullptr;
  const int32_t* sums = nullptr;  // of q over each 32 inputs

  int groups() const { return NumGroups(k); }
  size_t row_bytes() const { return size_t(GroupBytes(bits)) * groups(); }
  size_t scales_a_row() const { return size_t(ScalesPerGroup(bits)) * groups(); }
  size_t sums_a_row() const { return size_t{kSumsPerGroup} * groups(); }
  const int8_t* row_planes(int row) const { return planes + row_bytes() * row; }
  const float* row_scales(int row) const { return scales + scales_a_row() * row; }
  const int32_t* row_sums(int row) const { return sums + sums_a_row() * row; }
};

// Owning, reusable storage for QuantizedRows; Resize keeps capacity.
class QuantizedRowsBuffer {
 public:
  explicit QuantizedRowsBuffer(ActivationBits bits = ActivationBits::k16) : bits_(bits) {}
  void Resize(int num_rows, int k) { Resize(num_rows, k, bits_); }
  void Resize(int num_rows, int k, ActivationBits bits);
  ActivationBits bits() const { return bits_; }
  QuantizedRows view() const;
  int8_t* planes() { return planes_.data(); }
  float* scales() { return scales_.data(); }
  int32_t* sums() { return sums_.data(); }
  int8_t* row_planes(size_t row) { return planes() + GroupBytes(bits_) * groups() * row; }
  float* row_scales(size_t row) { return scales() + ScalesPerGroup(bits_) * groups() * row; }
  int32_t* row_sums(size_t row) { return sums() + kSumsPerGroup * groups() * row; }

 private:
  size_t groups() const { return static_cast<size_t>(NumGroups(k_)); }

  ActivationBits bits_;
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

// The same of 8 bits: bytes[groups*128], scales[groups*4], sums[groups*4].
void QuantizeByteRow(const float* x, int k, int8_t* bytes, float* scales, int32_t* sums);
void SumByteRow(const int8_t* bytes, int k, int32_t* sums);
void DequantizeByteRow(const int8_t* bytes, const float* scales, int k, float* x);

// Of either form.
void QuantizeRow(ActivationBits bits, const float* x, int k, int8_t* planes, float* scales,
                 int32_t* sums);
void SumRow(ActivationBits bits, const int8_t* planes, int k, int32_t* sums);
void DequantizeRow(ActivationBits bits, const int8_t* planes, const float* scales, int k, float* x);

namespace ref {
void QuantizeRow(const float* x, int k, int8_t* planes, float* scales, int32_t* sums);
void SumRow(const int8_t* planes, int k, int32_t* sums);
void DequantizeRow(const int8_t* planes, const float* scales, int k, float* x);
void QuantizeByteRow(const float* x, int k, int8_t* bytes, float* scales, int32_t* sums);
void SumByteRow(const int8_t* bytes, int k, int32_t* sums);
void DequantizeByteRow(const int8_t* bytes, const float* scales, int k, float* x);
}  // namespace ref

}  // namespace sheaf::kernels
