#pragma once
// LinearPlan: how one Linear of a checkpoint is stored, decided from tensor headers alone.
//
// Which tensors exist under the module's prefix decides the format; the hints of the config only
// say what headers cannot (the zero point convention of GPTQ files). Every dtype and shape is
// checked here, so unpacking (model/linear_loader.h) can fail on values alone: NaN scales, g_idx
// out of range.
//
// Ownership  tensor pointers live as long as the Checkpoint.
// Threads    pure.
// Errors     kNotFound: no such Linear. kInvalidArgument: missing part, wrong dtype or shape, bits
//            other than 4 and 8. kUnimplemented: a format that we know of and do not read. Messages name
//            file, tensor, wanted, got.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "model/checkpoint.h"
#include "model/config.h"

namespace sheaf {

enum class WeightFormat : uint8_t { kDense, kGptq, kAwq, kPackQuantized, kIntQuantized };
// "plain", "gptq", "awq", "pack-quantized", "int-quantized"
std::string_view WeightFormatName(WeightFormat format);

// What a stored zero point means.
enum class ZeroPoints : uint8_t {
  kSymmetric,  // none stored, or to be ignored: symmetric_zero()
  kStored,     // the zero point itself
  kMinusOne    // zero point - 1, modulo 16 or 256 (GPTQ v1)
};

struct LinearPlan {
  std::string prefix;
  int n = 0;  // of the whole tensor
  int k = 0;
  WeightFormat format = WeightFormat::kDense;
  int bits = 4;  // of a code: 4 or 8
  ZeroPoints zero_points = ZeroPoints::kSymmetric;
  int groups = 0;                     // scales a row; 0 = plain
  int group_size = 0;                 // inputs a scale, in file order
  const TensorInfo* codes = nullptr;  // or the plain weight
  const TensorInfo* scales = nullptr;
  const TensorInfo* zeros = nullptr;  // also when it is ignored
  const TensorInfo* g_idx = nullptr;
  const TensorInfo* shape = nullptr;  // compressed-tensors' weight_shape
  const TensorInfo* bias = nullptr;
  uint64_t plain_offset = 0;  // bytes into `codes` (one expert of a fused tensor)

  int symmetric_zero() const { return 1 << (bits - 1); }
  int codes_a_word() const { return 32 / bits; }
  bool quantized() const { return format != WeightFormat::kDense; }
  uint64_t file_bytes() const;  // of all its tensors; of n * k elements if plain
  // Asks the kernel for the bytes that loading reads.
  void WillNeed(const Checkpoint& checkpoint) const;
  template <typename Function>
  void ForEachTensor(const Function& function) const {
    for (const TensorInfo* tensor : {codes, scales, zeros, g_idx, shape, bias}) {
      if (tensor != nullptr) function(*tensor);
    }
  }
};

// A plain tensor by its own name: an embedding, a gate.
absl::StatusOr<LinearPlan> PlanPlain(const Checkpoint& checkpoint, const std::string& tensor, int n,
                                     int k);

absl::StatusOr<LinearPlan> PlanLinear(const Checkpoint& checkpoint, const QuantizationHints& hints,
                                      const std::string& prefix, int n, int k);

// Rows [first_row, first_row + n) of expert `expert` in a fused plain tensor
// [num_experts][rows][k].
absl::StatusOr<LinearPlan> PlanFusedLinear(const Checkpoint& checkpoint, const std::string& tensor,
                                           int num_experts, int rows, int k, int expert,
                                           int first_row, int n);

}  // namespace sheaf
