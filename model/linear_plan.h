#pragma once
// LinearPlan: how one Linear of a checkpoint is stored, decided from tensor headers alone.
//
// Which tensors exist under the module's prefix decides the format; the hints of the config only
// say what headers cannot (the zero point convention of GPTQ files). Every dtype and shape is
// checked here, so unpacking (model/linear_loader.h) can fail on values alone: NaN scales or codes,
// g_idx out of range, zero points that contradict the config (model/quantization/zero_points.h).
//
// Ownership  tensor pointers live as long as the Checkpoint.
// Threads    pure.
// Errors     kNotFound: no such Linear. kInvalidArgument: missing part, wrong dtype or shape, bits
//            other than 4 and 8. kUnimplemented: a format that we know of and do not read. Messages
//            name file, tensor, wanted, got.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "model/checkpoint.h"
#include "model/config.h"

namespace sheaf {

enum class WeightFormat : uint8_t { kDense, kGptq, kAwq, kPackQuantized, kIntQuantized, kFp8 };
// "plain", "gptq", "awq", "pack-quantized", "int-quantized", "fp8"
std::string_view WeightFormatName(WeightFormat format);

// What the stored value of a zero point means.
enum class ZeroPoints : uint8_t {
  kSymmetric,  // none stored, or all of them mean symmetric_zero()
  kStored,     // the zero point itself
  kMinusOne    // zero point - 1, modulo 16 or 256 (GPTQ v1)
};

// What the config says about a Linear's zero points.
struct ZeroPointClaim {
  std::optional<bool> symmetric;  // nothing = not said
  bool convention_said = false;   // of a GPTQ file: v1 or v2 is named
  std::string source;             // for messages: "quantization_config says sym true"
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
  int bits = 4;  // of a code: 4 or 8
  // What a stored value means unless the values show otherwise (DecideZeroPoints).
  ZeroPoints zero_points = ZeroPoints::kSymmetric;
  ZeroPointClaim claim;
  int groups = 0;                     // scales a row; 0 = plain
  int group_size = 0;                 // inputs a scale, in file order
  const TensorInfo* codes = nullptr;  // or the plain weight
  const TensorInfo* scales = nullptr;
  const TensorInfo* zeros = nullptr;
  const TensorInfo* g_idx = nullptr;
  const TensorInfo* shape = nullptr;  // compressed-tensors' weight_shape
  const TensorInfo* bias = nullptr;
  // Where its part begins in tensors that hold all experts of a layer, bytes.
  uint64_t codes_offset = 0;
  uint64_t scales_offset = 0;
  uint64_t zeros_offset = 0;
  uint64_t g_idx_offset = 0;
  // Which expert's matrix in them, of how many rows, and where its own begin.
  int matrix = 0;
  int matrix_rows = 0;
  int first_row = 0;
  bool is_part = false;        // of such tensors
  bool counts_whole = true;    // file_bytes() has what the parts share: true of one of them
  std::vector<int64_t> whole;  // what weight_shape says, or the end of it
  Fp8Scales fp8;               // kFp8 alone
  // Plain floats of whole rows that become 8-bit integers when loaded: model/int8_rows.h.
  bool to_int8 = false;

  int symmetric_zero() const { return 1 << (bits - 1); }
  int codes_a_word() const { return 32 / bits; }
  bool quantized() const { return format != WeightFormat::kDense; }
  // Repacked when loaded; other matrices of floats are kept as they are.
  bool packed() const { return quantized() && format != WeightFormat::kFp8; }
  // Of its part of each tensor.
  uint64_t codes_bytes() const;
  uint64_t scales_bytes() const;
  uint64_t zeros_bytes() const;
  uint64_t file_bytes() const;  // of all of them
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

// A matrix that all experts of a layer have in one tensor [num_experts][rows][k], and which part of
// it is wanted: rows [first_row, first_row + n) of expert `expert`.
struct FusedPart {
  int num_experts = 0;
  int rows = 0;
  int k = 0;
  int expert = 0;
  int first_row = 0;
  int n = 0;
};

// Plain or FP8 (`module` or module + ".weight" is the tensor) or pack-quantized (module +
// ".weight_packed" or "_packed", and so on).
absl::StatusOr<LinearPlan> PlanFusedLinear(const Checkpoint& checkpoint,
                                           const QuantizationHints& hints,
                                           const std::string& module, const FusedPart& part);
// Whether any of those tensors is there.
bool HasFusedLinear(const Checkpoint& checkpoint, const std::string& module);

}  // namespace sheaf
