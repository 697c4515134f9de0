#include "model/repack/file_linear.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "model/formats/formats.h"

namespace sheaf {
namespace {

constexpr int kSymmetricZero = 8;

// [rows][columns] -> [columns][rows].
template <typename T>
std::vector<T> Transposed(const T* in, size_t rows, size_t columns) {
  constexpr size_t kTile = 32;  // a tile's lines of both sides stay in the cache
  std::vector<T> out(rows * columns);
  for (size_t row = 0; row < rows; row += kTile) {
    for (size_t column = 0; column < columns; column += kTile) {
      for (size_t r = row; r < std::min(rows, row + kTile); ++r) {
        for (size_t c = column; c < std::min(columns, column + kTile); ++c) {
          out[c * rows + r] = in[r * columns + c];
        }
      }
    }
  }
  return out;
}

std::vector<uint8_t> TransposedScales(const std::vector<uint8_t>& scales, size_t element_bytes,
                                      size_t rows, size_t columns) {
  std::vector<uint8_t> out(scales.size());
  for (size_t r = 0; r < rows; ++r) {
    for (size_t c = 0; c < columns; ++c) {
      std::memcpy(&out[(c * rows + r) * element_bytes], &scales[(r * columns + c) * element_bytes],
                  element_bytes);
    }
  }
  return out;
}

std::vector<uint32_t> WordsOf(std::span<const uint8_t> bytes) {
  std::vector<uint32_t> words(bytes.size() / sizeof(uint32_t));
  std::memcpy(words.data(), bytes.data(), words.size() * sizeof(uint32_t));
  return words;
}

// AutoAWQ: words of 8 interleaved outputs of one input.
std::vector<uint32_t> WordsOfAwq(std::span<const uint8_t> bytes, int n, int k) {
  constexpr int kPlaceOfColumn[8] = {0, 4, 1, 5, 2, 6, 3, 7};
  std::vector<uint32_t> words(static_cast<size_t>(k / 8) * n);
  for (int input = 0; input < k; ++input) {
    for (int row = 0; row < n; ++row) {
      const uint32_t word = LoadWord(bytes.data(), static_cast<size_t>(input) * (n / 8) + row / 8);
      const uint32_t nibble = (word >> (4 * kPlaceOfColumn[row % 8])) & 15u;
      words[static_cast<size_t>(input / 8) * n + row] |= nibble << (4 * (input % 8));
    }
  }
  return words;
}

int ZeroOf(const LinearPlan& plan, const uint8_t* zeros, int row, int group) {
  switch (plan.format) {
    case WeightFormat::kAwq:
      return AwqZero(zeros, plan, row, group);
    case WeightFormat::kPackQuantized:
      return PackQuantizedZero(zeros, plan, row, group);
    default:
      break;
  }
  return GptqZero(zeros, plan, row, group);
}

template <typename T>
NewTensor Tensor(std::string name, TensorDtype dtype, std::vector<int64_t> shape,
                 const std::vector<T>& values) {
  NewTensor tensor{std::move(name), dtype, std::move(shape), {}};
  const auto* bytes = reinterpret_cast<const uint8_t*>(values.data());
  tensor.bytes.assign(bytes, bytes + values.size() * sizeof(T));
  return tensor;
}

// [groups][n] zero points as words of 8 outputs; `minus_one` as GPTQ v1 stores them.
std::vector<uint32_t> GptqZeroWords(const FileLinear& linear, bool minus_one) {
  const size_t words_per_group = static_cast<size_t>(linear.n + 7) / 8;
  std::vector<uint32_t> words(words_per_group * linear.groups);
  for (int group = 0; group < linear.groups; ++group) {
    for (int row = 0; row < linear.n; ++row) {
      const int zero =
          linear.zeros.empty() ? kSymmetricZero : linear.zeros[size_t(group) * linear.n + row];
      const auto stored = static_cast<uint32_t>(minus_one ? (zero - 1) & 15 : zero);
      words[group * words_per_group + row / 8] |= stored << (4 * (row % 8));
    }
  }
  return words;
}

std::vector<int32_t> SequentialGroups(const FileLinear& linear) {
  std::vector<int32_t> g_idx(static_cast<size_t>(linear.k));
  for (int input = 0; input < linear.k; ++input) g_idx[input] = input / linear.group_size;
  return g_idx;
}

std::vector<NewTensor> WriteGptq(const FileLinear& linear, bool minus_one, bool with_g_idx) {
  const std::string& prefix = linear.prefix;
  std::vector<NewTensor> tensors;
  tensors.push_back(
      Tensor(prefix + ".qweight", TensorDtype::kI32, {linear.k / 8, linear.n}, linear.words));
  tensors.push_back(Tensor(prefix + ".qzeros", TensorDtype::kI32,
                           {linear.groups, (linear.n + 7) / 8}, GptqZeroWords(linear, minus_one)));
  tensors.push_back(
      Tensor(prefix + ".scales", linear.scale_dtype, {linear.groups, linear.n}, linear.scales));
  if (with_g_idx) {
    tensors.push_back(Tensor(prefix + ".g_idx", TensorDtype::kI32, {linear.k},
                             linear.g_idx.empty() ? SequentialGroups(linear) : linear.g_idx));
  }
  return tensors;
}

std::vector<NewTensor> WritePackQuantized(const FileLinear& linear, bool symmetric) {
  const std::string& prefix = linear.prefix;
  const size_t n = linear.n, groups = linear.groups;
  std::vector<NewTensor> tensors;
  tensors.push_back(Tensor(prefix + ".weight_packed", TensorDtype::kI32, {linear.n, linear.k / 8},
                           Transposed(linear.words.data(), size_t(linear.k) / 8, n)));
  tensors.push_back(
      Tensor(prefix + ".weight_scale", linear.scale_dtype, {linear.n, linear.groups},
             TransposedScales(linear.scales, DtypeBytes(linear.scale_dtype), groups, n)));
  tensors.push_back(Tensor(prefix + ".weight_shape", TensorDtype::kI64, {2},
                           std::vector<int64_t>{linear.n, linear.k}));
  if (!symmetric) {
    std::vector<uint32_t> words((n + 7) / 8 * groups);
    for (size_t group = 0; group < groups; ++group) {
      for (size_t row = 0; row < n; ++row) {
        const uint32_t zero = linear.zeros.empty() ? kSymmetricZero : linear.zeros[group * n + row];
        words[row / 8 * groups + group] |= zero << (4 * (row % 8));
      }
    }
    tensors.push_back(Tensor(prefix + ".weight_zero_point", TensorDtype::kI32,
                             {(linear.n + 7) / 8, linear.groups}, words));
  }
  if (!linear.g_idx.empty()) {
    tensors.push_back(
        Tensor(prefix + ".weight_g_idx", TensorDtype::kI32, {linear.k}, linear.g_idx));
  }
  return tensors;
}

}  // namespace

absl::StatusOr<FileLinear> ReadFileLinear(const Checkpoint& checkpoint, const LinearPlan& plan) {
  FileLinear linear;
  linear.prefix = plan.prefix;
  linear.n = plan.n;
  linear.k = plan.k;
  linear.groups = plan.groups;
  linear.group_size = plan.group_size;
  linear.scale_dtype = plan.scales->dtype;
  const size_t n = plan.n, groups = plan.groups;
  SHEAF_ASSIGN_OR_RETURN(const std::vector<uint8_t> codes, checkpoint.ReadAll(*plan.codes));
  SHEAF_ASSIGN_OR_RETURN(linear.scales, checkpoint.ReadAll(*plan.scales));
  switch (plan.format) {
    case WeightFormat::kAwq:
      linear.words = WordsOfAwq(codes, plan.n, plan.k);
      break;
    case WeightFormat::kPackQuantized:
      linear.words = Transposed(WordsOf(codes).data(), n, size_t(plan.k) / 8);
      linear.scales = TransposedScales(linear.scales, DtypeBytes(linear.scale_dtype), n, groups);
      break;
    default:
      linear.words = WordsOf(codes);
      break;
  }
  if (plan.zero_points != ZeroPoints::kSymmetric) {
    SHEAF_ASSIGN_OR_RETURN(const std::vector<uint8_t> zeros, checkpoint.ReadAll(*plan.zeros));
    linear.zeros.resize(groups * n);
    for (int group = 0; group < plan.groups; ++group) {
      for (int row = 0; row < plan.n; ++row) {
        linear.zeros[group * n + row] =
            static_cast<uint8_t>(ZeroOf(plan, zeros.data(), row, group));
      }
    }
  }
  if (plan.g_idx != nullptr) {
    linear.g_idx.resize(static_cast<size_t>(plan.k));
    SHEAF_ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes, checkpoint.ReadAll(*plan.g_idx));
    std::memcpy(linear.g_idx.data(), bytes.data(), linear.g_idx.size() * sizeof(int32_t));
    // All zeros: nobody has set it.
    const bool unset = std::all_of(linear.g_idx.begin(), linear.g_idx.end(),
                                   [](int32_t group) { return group == 0; });
    if (unset || linear.g_idx == SequentialGroups(linear)) linear.g_idx.clear();
  }
  return linear;
}

absl::StatusOr<std::vector<NewTensor>> WriteFileLinear(const FileLinear& linear,
                                                       RepackFormat format, bool symmetric) {
  switch (format) {
    case RepackFormat::kGptq:
      return WriteGptq(linear, /*minus_one=*/true, /*with_g_idx=*/true);
    case RepackFormat::kGptqV2:
      return WriteGptq(linear, /*minus_one=*/false, /*with_g_idx=*/true);
    case RepackFormat::kAutoRound:
      if (!linear.g_idx.empty()) {
        return absl::InvalidArgumentError(absl::StrFormat(
            "%s: its inputs are grouped out of order (desc_act), which auto-round cannot say: "
            "wanted gptq, gptq_v2 or compressed-tensors",
            linear.prefix));
      }
      return WriteGptq(linear, /*minus_one=*/true, /*with_g_idx=*/false);
    case RepackFormat::kCompressedTensors:
      break;
  }
  return WritePackQuantized(linear, symmetric);
}

}  // namespace sheaf
