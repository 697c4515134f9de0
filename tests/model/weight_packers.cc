#include "tests/model/weight_packers.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace sheaf::testing {
namespace {

// Words [rows][columns] that codes are put into one at a time.
class Words {
 public:
  Words(int rows, int columns, int bits)
      : rows_(rows), columns_(columns), bits_(bits), words_(size_t(rows) * columns) {}
  void Put(int row, int column, int place, int value) {
    words_[size_t(row) * columns_ + column] |= static_cast<uint32_t>(value & ((1 << bits_) - 1))
                                               << (bits_ * place);
  }
  TestTensor Tensor() const { return {"I32", {rows_, columns_}, BytesOf(words_)}; }

 private:
  int rows_, columns_, bits_;
  std::vector<uint32_t> words_;
};

// Element [row][column] of the file is the matrix's scale (row, column), or (column, row) if
// transposed.
TestTensor Scales(const CodedMatrix& matrix, bool transposed) {
  std::vector<uint8_t> bytes;
  const int rows = transposed ? matrix.groups : matrix.n,
            columns = transposed ? matrix.n : matrix.groups;
  const size_t element = matrix.scale_dtype == "F32" ? 4 : 2;
  for (int row = 0; row < rows; ++row) {
    for (int column = 0; column < columns; ++column) {
      const uint32_t bits = transposed ? matrix.scale_bits[column * matrix.groups + row]
                                       : matrix.scale_bits[row * matrix.groups + column];
      const auto* in = reinterpret_cast<const uint8_t*>(&bits);
      bytes.insert(bytes.end(), in, in + element);
    }
  }
  return {matrix.scale_dtype, {rows, columns}, bytes};
}

TestTensor GIdx(const CodedMatrix& matrix) {
  return {"I32", {matrix.k}, BytesOf(matrix.group_of_input)};
}

float WidenElement(const std::string& dtype, const uint8_t* in) {
  if (dtype == "F32") {
    float value;
    std::memcpy(&value, in, 4);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, in, 2);
  return dtype == "F16" ? HalfToFloat(bits) : BFloatToFloat(bits);
}

}  // namespace

float HalfToFloat(uint16_t bits) {
  const int exponent = (bits >> 10) & 31, mantissa = bits & 1023;
  const float magnitude = exponent == 0
                              ? std::ldexp(static_cast<float>(mantissa), -24)
                              : std::ldexp(static_cast<float>(1024 + mantissa), exponent - 25);
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

float BFloatToFloat(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof(value));
  return value;
}

float CodedMatrix::scale(int row, int group) const {
  const uint32_t stored = scale_bits[static_cast<size_t>(row) * groups + group];
  return WidenElement(scale_dtype, reinterpret_cast<const uint8_t*>(&stored));
}

std::vector<float> CodedMatrix::Dequantized() const {
  std::vector<float> out(codes.size());
  for (int row = 0; row < n; ++row) {
    for (int i = 0; i < k; ++i) {
      const int group = group_of_input[i];
      const int zero = zeros[static_cast<size_t>(row) * groups + group];
      out[static_cast<size_t>(row) * k + i] =
          scale(row, group) * static_cast<float>(codes[static_cast<size_t>(row) * k + i] - zero);
    }
  }
  return out;
}

CodedMatrix RandomMatrix(int n, int k, const MatrixOptions& options, std::mt19937_64& random) {
  CodedMatrix matrix;
  matrix.n = n;
  matrix.k = k;
  const int group_size = options.group_size == 0 ? k : options.group_size;
  matrix.groups = (k + group_size - 1) / group_size;
  matrix.scale_dtype = options.scale_dtype;
  matrix.bits = options.bits;
  const int codes = 1 << options.bits;
  matrix.codes.resize(static_cast<size_t>(n) * k);
  for (auto& code : matrix.codes) code = static_cast<uint8_t>(random() % codes);
  const size_t scales = static_cast<size_t>(n) * matrix.groups;
  for (size_t i = 0; i < scales; ++i) {
    matrix.zeros.push_back(static_cast<uint8_t>(options.symmetric ? codes / 2 : random() % codes));
    // Finite in each dtype: an exponent below the highest, any mantissa.
    const uint32_t sign = options.negative_scales ? static_cast<uint32_t>(random() & 1) : 0;
    const auto mantissa = static_cast<uint32_t>(random());
    if (options.scale_dtype == "F16") {
      matrix.scale_bits.push_back(sign << 15 | (5 + mantissa % 8) << 10 | (mantissa >> 8 & 1023));
    } else if (options.scale_dtype == "BF16") {
      matrix.scale_bits.push_back(sign << 15 | (115 + mantissa % 8) << 7 | (mantissa >> 8 & 127));
    } else {
      matrix.scale_bits.push_back(sign << 31 | (115 + mantissa % 8) << 23 |
                                  (mantissa >> 8 & 0x7FFFFF));
    }
  }
  for (int i = 0; i < k; ++i) matrix.group_of_input.push_back(i / group_size);
  if (options.permuted_groups) {
    std::shuffle(matrix.group_of_input.begin(), matrix.group_of_input.end(), random);
  }
  return matrix;
}

TestTensors PackGptq(const CodedMatrix& matrix, const std::string& prefix, int zero_offset,
                     bool with_g_idx) {
  const int each = 32 / matrix.bits;
  Words codes(matrix.k / each, matrix.n, matrix.bits),
      zeros(matrix.groups, (matrix.n + each - 1) / each, matrix.bits);
  for (int row = 0; row < matrix.n; ++row) {
    for (int i = 0; i < matrix.k; ++i)
      codes.Put(i / each, row, i % each, matrix.codes[size_t(row) * matrix.k + i]);
    for (int group = 0; group < matrix.groups; ++group) {
      zeros.Put(group, row / each, row % each,
                matrix.zeros[size_t(row) * matrix.groups + group] - zero_offset);
    }
  }
  TestTensors out = {{prefix + ".qweight", codes.Tensor()},
                     {prefix + ".qzeros", zeros.Tensor()},
                     {prefix + ".scales", Scales(matrix, true)}};
  if (with_g_idx) out[prefix + ".g_idx"] = GIdx(matrix);
  return out;
}

TestTensors PackAwq(const CodedMatrix& matrix, const std::string& prefix) {
  // Nibble j of a word holds column 8c + order[j].
  constexpr int kOrder[8] = {0, 2, 4, 6, 1, 3, 5, 7};
  Words codes(matrix.k, matrix.n / 8, 4), zeros(matrix.groups, matrix.n / 8, 4);
  for (int column_word = 0; column_word < matrix.n / 8; ++column_word) {
    for (int j = 0; j < 8; ++j) {
      const size_t row = size_t(8) * column_word + kOrder[j];
      for (int i = 0; i < matrix.k; ++i)
        codes.Put(i, column_word, j, matrix.codes[row * matrix.k + i]);
      for (int group = 0; group < matrix.groups; ++group) {
        zeros.Put(group, column_word, j, matrix.zeros[row * matrix.groups + group]);
      }
    }
  }
  return {{prefix + ".qweight", codes.Tensor()},
          {prefix + ".qzeros", zeros.Tensor()},
          {prefix + ".scales", Scales(matrix, true)}};
}

TestTensors PackPackQuantized(const CodedMatrix& matrix, const std::string& prefix, bool with_zeros,
                              bool with_g_idx) {
  const int each = 32 / matrix.bits;
  Words codes(matrix.n, (matrix.k + each - 1) / each, matrix.bits),
      zeros((matrix.n + each - 1) / each, matrix.groups, matrix.bits);
  for (int row = 0; row < matrix.n; ++row) {
    for (int i = 0; i < matrix.k; ++i)
      codes.Put(row, i / each, i % each, matrix.codes[size_t(row) * matrix.k + i]);
    for (int group = 0; group < matrix.groups; ++group) {
      zeros.Put(row / each, group, row % each, matrix.zeros[size_t(row) * matrix.groups + group]);
    }
  }
  const std::vector<int64_t> shape = {matrix.n, matrix.k};
  TestTensors out = {{prefix + ".weight_packed", codes.Tensor()},
                     {prefix + ".weight_scale", Scales(matrix, false)},
                     {prefix + ".weight_shape", {"I64", {2}, BytesOf(shape)}}};
  if (with_zeros) out[prefix + ".weight_zero_point"] = zeros.Tensor();
  if (with_g_idx) out[prefix + ".weight_g_idx"] = GIdx(matrix);
  return out;
}

TestTensor UnpackedZeros(const CodedMatrix& matrix) {
  TestTensor zeros = {"I8", {matrix.n, matrix.groups}, {}};
  for (const uint8_t zero : matrix.zeros)
    zeros.bytes.push_back(static_cast<uint8_t>(zero - (1 << (matrix.bits - 1))));
  return zeros;
}

TestTensors PackIntQuantized(const CodedMatrix& matrix, const std::string& prefix, bool with_zeros,
                             bool with_g_idx) {
  TestTensor weight = {"I8", {matrix.n, matrix.k}, {}};
  for (const uint8_t code : matrix.codes) weight.bytes.push_back(static_cast<uint8_t>(code - 128));
  TestTensors out = {{prefix + ".weight", weight},
                     {prefix + ".weight_scale", Scales(matrix, false)}};
  if (with_zeros) out[prefix + ".weight_zero_point"] = UnpackedZeros(matrix);
  if (with_g_idx) out[prefix + ".weight_g_idx"] = GIdx(matrix);
  return out;
}

TestTensor PlainTensor(const std::string& dtype, std::vector<int64_t> shape,
                       std::mt19937_64& random) {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  std::vector<uint8_t> bytes;
  for (int64_t i = 0; i < count; ++i) {
    const float value = uniform(random);
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    if (dtype == "BF16") bits >>= 16;
    if (dtype == "F16") bits = (bits >> 31) << 15 | static_cast<uint32_t>(random() % 0x3C00);
    const auto* in = reinterpret_cast<const uint8_t*>(&bits);
    bytes.insert(bytes.end(), in, in + (dtype == "F32" ? 4 : 2));
  }
  return {dtype, std::move(shape), std::move(bytes)};
}

std::vector<float> Widened(const TestTensor& tensor) {
  const size_t element = tensor.dtype == "F32" ? 4 : 2;
  std::vector<float> out;
  for (size_t at = 0; at < tensor.bytes.size(); at += element) {
    out.push_back(WidenElement(tensor.dtype, &tensor.bytes[at]));
  }
  return out;
}

namespace {

int CodeAt(const kernels::PackedW4& w, size_t block, size_t lane, int i) {
  uint32_t word;
  std::memcpy(&word, w.codes + 4 * ((block * w.steps() + i / 8) * 16 + lane), 4);
  return static_cast<int>(word >> (4 * (i % 8)) & 15);
}

int CodeAt(const kernels::PackedW8& w, size_t block, size_t lane, int i) {
  constexpr int kWord[8] = {0, 1, 0, 1, 0, 1, 0, 1}, kByte[8] = {0, 0, 1, 1, 2, 2, 3, 3};
  const size_t word = (block * w.steps() + i / 8) * 32 + 16 * kWord[i % 8] + lane;
  return w.codes[4 * word + kByte[i % 8]];
}

template <int kBits>
std::vector<float> MatrixOf(const kernels::PackedIntegers<kBits>& w) {
  static constexpr const char* kNames[] = {"F16", "BF16", "F32"};
  std::vector<float> out(static_cast<size_t>(w.n) * w.k);
  const std::string dtype = kNames[static_cast<int>(w.scale_format)];
  for (int row = 0; row < w.n; ++row) {
    for (int i = 0; i < w.k; ++i) {
      const size_t block = static_cast<size_t>(row) / 16, lane = static_cast<size_t>(row) % 16;
      const size_t at = (block * w.segments() + i / w.segment) * 16 + lane;
      const int zero = w.zeros == nullptr ? 1 << (kBits - 1) : w.zeros[at];
      const float scale = WidenElement(
          dtype,
          static_cast<const uint8_t*>(w.scales) + at * kernels::ScaleBytes(w.scale_format));
      const int input = w.permutation == nullptr ? i : w.permutation[i];
      out[static_cast<size_t>(row) * w.k + input] =
          scale * static_cast<float>(CodeAt(w, block, lane, i) - zero);
    }
  }
  return out;
}

}  // namespace

std::vector<float> MatrixOf(const kernels::Linear& linear) {
  const int n = linear.n(), k = linear.k();
  std::vector<float> out(static_cast<size_t>(n) * k);
  if (linear.storage == kernels::Linear::Storage::kDense &&
      linear.dense.format == kernels::FloatFormat::kE4M3) {
    const kernels::BlockScales& scales = linear.dense.scales;
    for (int row = 0; row < n; ++row) {
      for (int i = 0; i < k; ++i) {
        const uint8_t code = linear.dense.row(row)[i];
        const int exponent = code >> 3 & 15, fraction = code & 7;
        const double magnitude = exponent == 0 ? std::ldexp(fraction, -9)
                                               : std::ldexp(8.0 + fraction, exponent - 10);
        const auto value = static_cast<float>((code & 0x80) != 0 ? -magnitude : magnitude);
        const int block = (row + scales.first_row) / scales.block_rows * scales.stride +
                          (i + scales.first_column) / scales.block_columns;
        out[static_cast<size_t>(row) * k + i] = value * scales.values[block];
      }
    }
    return out;
  }
  if (linear.storage == kernels::Linear::Storage::kDense) {
    static constexpr const char* kNames[] = {"F32", "BF16", "F16"};
    const std::string dtype = kNames[static_cast<int>(linear.dense.format)];
    for (size_t i = 0; i < out.size(); ++i) {
      out[i] = WidenElement(
          dtype, static_cast<const uint8_t*>(linear.dense.data) + i * (dtype == "F32" ? 4 : 2));
    }
    return out;
  }
  return linear.storage == kernels::Linear::Storage::kW8 ? MatrixOf(linear.w8)
                                                         : MatrixOf(linear.w4);
}

}  // namespace sheaf::testing
