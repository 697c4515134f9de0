#pragma once
// The quantizing tools' side of each integer format: packs a matrix of codes into the tensors that
// the tool would write, one code at a time, and the reader's side of the packed layout: what
// matrix a Linear stands for.
//
// Nothing here shares code with model/formats. Threads  one.

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "kernels/linear/linear.h"
#include "tests/model/checkpoint_writer.h"

namespace sheaf::testing {

float HalfToFloat(uint16_t bits);
float BFloatToFloat(uint16_t bits);

// W[row][i] = scale[row][group_of_input[i]] * (code[row][i] - zero[row][group_of_input[i]]).
struct CodedMatrix {
  int n = 0, k = 0, groups = 0;
  int bits = 4;                         // 4 or 8
  std::string scale_dtype;              // "F16", "BF16", "F32"
  std::vector<uint8_t> codes;           // [n][k]
  std::vector<uint8_t> zeros;           // [n][groups]
  std::vector<uint32_t> scale_bits;     // [n][groups], in scale_dtype
  std::vector<int32_t> group_of_input;  // [k]

  float scale(int row, int group) const;
  std::vector<float> Dequantized() const;  // [n][k]
};

struct MatrixOptions {
  int group_size = 128;  // 0 = one group a row
  std::string scale_dtype = "F16";
  bool symmetric = true;
  bool permuted_groups = false;
  bool negative_scales = false;
  int bits = 4;
};

CodedMatrix RandomMatrix(int n, int k, const MatrixOptions& options, std::mt19937_64& random);

// Tensors by full name under `prefix`. zero_offset: subtracted from stored zero points (1 = GPTQ
// v1).
TestTensors PackGptq(const CodedMatrix& matrix, const std::string& prefix, int zero_offset,
                     bool with_g_idx);
TestTensors PackAwq(const CodedMatrix& matrix, const std::string& prefix);
TestTensors PackPackQuantized(const CodedMatrix& matrix, const std::string& prefix, bool with_zeros,
                              bool with_g_idx);
// compressed-tensors' signed bytes: weight, weight_scale, weight_zero_point. Of 8-bit matrices.
TestTensors PackIntQuantized(const CodedMatrix& matrix, const std::string& prefix, bool with_zeros,
                             bool with_g_idx);
// [n][groups] signed bytes, as some compressed-tensors files have them.
TestTensor UnpackedZeros(const CodedMatrix& matrix);

// Plain weights: [n][k] of a dtype that holds the values exactly or not at all.
TestTensor PlainTensor(const std::string& dtype, std::vector<int64_t> shape,
                       std::mt19937_64& random);
std::vector<float> Widened(const TestTensor& tensor);

// [n][k], as kernels/linear/packed_w4.h, packed_w8.h and kernels/linear/dense_matrix.h define them.
std::vector<float> MatrixOf(const kernels::Linear& linear);

}  // namespace sheaf::testing
