#pragma once
// FileLinear: a 4-bit Linear as any of the formats can hold it: nibbles, scales, zero points and
// groups in file order, nothing rounded, nothing reordered. What repacking reads and writes.
//
//   words    [k/8][n]        8 inputs of one output, low nibble first (GPTQ's own order)
//   scales   [groups][n]     in the file's dtype
//   zeros    [groups][n]     the zero point itself, 0..15; empty = 8 everywhere and none is stored
//   g_idx    [k]             group of an input; empty = input / group_size
//
// Ownership  owns its arrays. Threads: pure but for reading files.
// Errors     ReadFileLinear: those of Checkpoint::Read (the plan is checked); WriteFileLinear:
//            kInvalidArgument naming the Linear and what the target cannot say.
// Cost       one pass over the words; a transposition for pack-quantized.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "model/checkpoint.h"
#include "model/linear_plan.h"

namespace sheaf {

enum class RepackFormat : uint8_t { kGptq, kGptqV2, kAutoRound, kCompressedTensors };

struct FileLinear {
  std::string prefix;
  int n = 0;
  int k = 0;
  int groups = 0;
  int group_size = 0;
  std::vector<uint32_t> words;
  TensorDtype scale_dtype = TensorDtype::kF16;
  std::vector<uint8_t> scales;
  std::vector<uint8_t> zeros;
  std::vector<int32_t> g_idx;
};

absl::StatusOr<FileLinear> ReadFileLinear(const Checkpoint& checkpoint, const LinearPlan& plan);

// A tensor that is about to be written.
struct NewTensor {
  std::string name;
  TensorDtype dtype = TensorDtype::kU8;
  std::vector<int64_t> shape;
  std::vector<uint8_t> bytes;
};

// The tensors of the Linear in this format, but for its bias. `symmetric`: the whole checkpoint is,
// so no zero points are said (gptq still stores its constant ones).
absl::StatusOr<std::vector<NewTensor>> WriteFileLinear(const FileLinear& linear,
                                                       RepackFormat format, bool symmetric);

}  // namespace sheaf
