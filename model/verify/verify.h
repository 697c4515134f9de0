#pragma once
// VerifyCheckpoint: reads every byte of a checkpoint directory and says what is wrong with it.
//
// Digests    SHA-256 of every file, compared with SHA256SUMS where the directory has one; of the
//            whole: of the lines that `sha256sum` prints for the files in order of name.
// Values     NaN and Inf, ranges of weights and scales a part of the model, what zero points are,
//            kinds of g_idx, codes that no quantizer writes (a long run of one word).
//
// A fault is what makes outputs wrong or a load fail: the report names file, tensor and position.
// What is odd and may be meant is a remark. Headers, missing tensors and experts are
// InspectTensors' business (model/inspect/inspect.h), whose refusal is the first fault here.
//
// Threads    files are divided among the pool's threads.
// Memory     a buffer of kVerifyPieceBytes a thread.
// Cost       every file is read once, at the speed of SHA-256: 1 to 2 GB/s a core.
// Errors     none: what cannot be read is a fault.

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/thread_pool.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/model_layout.h"
#include "model/verify/value_scan.h"

namespace sheaf {

struct FileDigest {
  enum class Listed : uint8_t { kNo, kSame, kOther };  // in SHA256SUMS
  std::string name;
  uint64_t bytes = 0;
  std::string sha256;  // empty: could not be read
  Listed listed = Listed::kNo;
};

// Floats of one part and role.
struct ValueRange {
  ModelPart part = ModelPart::kOther;
  std::string role;   // "weights", "scales", "biases", "unused"
  std::string dtype;  // "BF16"
  uint64_t tensors = 0;
  FloatFacts floats;
};

// Integer codes of one part.
struct CodeRange {
  ModelPart part = ModelPart::kOther;
  uint64_t tensors = 0;
  std::array<uint64_t, 16> counts{};  // of 4-bit codes
  // Linears by their zero points: none stored, one value throughout, several.
  uint64_t without_zeros = 0;
  std::map<int, uint64_t> one_zero;  // by the stored value
  uint64_t several_zeros = 0;
};

struct GroupIndexKinds {  // Linears
  uint64_t absent = 0, zeros = 0, in_order = 0, permuted = 0;
};

// --reference: sampled rows by the scalar kernels, against the fast ones on the whole matrix.
struct ReferenceReport {
  uint64_t linears = 0;
  uint64_t rows = 0;
  uint64_t different = 0;  // Linears, each a fault
};

struct VerifyReport {
  std::string directory;
  std::vector<FileDigest> files;  // by name
  std::string sha256;             // of the whole
  bool has_sums = false;
  std::vector<ValueRange> values;
  std::vector<CodeRange> codes;
  GroupIndexKinds group_indices;
  std::optional<ReferenceReport> reference;
  std::vector<std::string> remarks;
  std::vector<std::string> faults;  // empty: nothing is wrong; the first kMaxFaults
  uint64_t num_faults = 0;
  uint64_t bytes = 0;  // read
  double seconds = 0;

  void AddFault(std::string sentence);
};

inline constexpr size_t kMaxFaults = 100;
inline constexpr size_t kVerifyPieceBytes = size_t{4} << 20;

// `config` may be the error of reading it: tensors are then read for digests, NaN and Inf alone.
// `refusal`: what is known against the checkpoint already, empty = nothing.
VerifyReport VerifyCheckpoint(const Checkpoint& checkpoint, const ModelConfig* config,
                              const std::string& refusal, ThreadPool& pool);

std::string VerifyText(const VerifyReport& report);
std::string VerifyJson(const VerifyReport& report);

}  // namespace sheaf
