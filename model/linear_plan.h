#pragma once
// LinearPlan: how one Linear of a checkpoint is stored, decided from tensor headers alone.
//
// Which tensors exist under the module's prefix decides the format; the hints of the config only
// say what headers cannot (the zero point convention of GPTQ files). Every dtype and shape is
// checked here, so unpacking (model/linear_loader.h) can fail on values alone: NaN scales or codes,
// g_idx out of range.
//
// Ownership  tensor pointers live as long as the Checkpoint.
// Threads    pure.
// Errors     kNotFound: no such Linear. kInvalidArgument: missing part, wrong dtype or shape, bits
//            other than 4. kUnimplemented: a format that we know of and do not read. Messages name
//            file, tensor, wanted, got.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "model/checkpoint.h"
#include "model/config.h"

namespace sheaf {

enum class WeightFormat : uint8_t { kDense, kGptq, kAwq, kPackQuantized, kFp8 };
// "plain", "gptq", "awq", "pack-quantized", "fp8"
std::string_view WeightFormatName(WeightFormat format);

// What the stored nibble of a zero point means.
enum class ZeroPoints : uint8_t {
  kSymmetric,  // none stored, or to be ignored: 8
  kStored,     // the zero point itself
  kMinusOne    // zero point - 1, modulo 16 (GPTQ v1)
};

// Where the scales of an FP8 matrix lie in their tensor, which has one for each block.
struct Fp8Scales {
  int block_rows = 0;  // elements; all rows where one block spans them
  int block_columns = 0;
  int stride = 0;      // blocks across
  int first_row = 0;   // of the plan's rows in the matrix that is scaled (up in gate_up)
  uint64_t first = 0;  // element of the tensor where that matrix begins (one expert of all)
};

struct LinearPlan {
  std::string prefix;
  int n = 0;  // of the whole tensor
  int k = 0;
  WeightFormat format = WeightFormat::kDense;
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
  Fp8Scales fp8;              // kFp8 alone

  bool quantized() const { return format != WeightFormat::kDense; }
  // Repacked when loaded; other matrices of floats are kept as they are.
  bool packed() const { return quantized() && format != WeightFormat::kFp8; }
  uint64_t file_bytes() const;  // of all its tensors; of its share where they hold more
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

// Rows [first_row, first_row + n) of expert `expert` in a fused tensor [num_experts][rows][k] of
// plain floats or FP8.
absl::StatusOr<LinearPlan> PlanFusedLinear(const Checkpoint& checkpoint,
                                           const QuantizationHints& hints,
                                           const std::string& tensor,
                                           int num_experts, int rows, int k, int expert,
                                           int first_row, int n);

}  // namespace sheaf
