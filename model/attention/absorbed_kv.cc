#include "model/attention/absorbed_kv.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/status.h"
#include "kernels/simd/half_float.h"

namespace sheaf {
namespace {

using kernels::DenseMatrix;
using kernels::FloatFormat;
using kernels::kRowBlock;
using kernels::Linear;
using kernels::PackedIntegers;

constexpr uint16_t kF16One = 0x3c00;

// The word of a row's inputs i.. of a step (of 8 bits: of the step's even inputs); i counts the
// packed inputs (kernels/linear/packed_integers.h).
template <int kBits>
size_t WordIndex(const PackedIntegers<kBits>& w, int row, int i) {
  return (static_cast<size_t>(row / kRowBlock) * w.steps() + static_cast<size_t>(i / 8)) *
             (w.kStepBytes / 4) +
         static_cast<size_t>(row % kRowBlock);
}

template <int kBits>
size_t ScaleIndex(const PackedIntegers<kBits>& w, int row, int segment) {
  return (static_cast<size_t>(row / kRowBlock) * w.segments() + static_cast<size_t>(segment)) *
             kRowBlock +
         static_cast<size_t>(row % kRowBlock);
}

// Where in the step's word, or words, input i is: of 8 bits, the odd inputs come a row block later.
struct CodePlace {
  size_t word = 0;
  int shift = 0;
};

template <int kBits>
CodePlace PlaceOf(const PackedIntegers<kBits>& w, int row, int i) {
  const size_t word = WordIndex(w, row, i);
  if constexpr (kBits == 8) return {word + i % 2 * kRowBlock, i % 8 / 2 * 8};
  return {word, i % 8 * 4};
}

template <int kBits>
uint32_t CodeAt(const PackedIntegers<kBits>& w, int row, int i) {
  const CodePlace place = PlaceOf(w, row, i);
  uint32_t word;
  std::memcpy(&word, w.codes + 4 * place.word, 4);
  return (word >> place.shift) & ((1u << kBits) - 1);
}

template <int kBits>
float ScaleAt(const PackedIntegers<kBits>& w, size_t index) {
  switch (w.scale_format) {
    case kernels::ScaleFormat::kF16:
      return kernels::F16ToFloat(static_cast<const uint16_t*>(w.scales)[index]);
    case kernels::ScaleFormat::kBF16:
      return kernels::Bf16ToFloat(static_cast<const uint16_t*>(w.scales)[index]);
    default:
      return static_cast<const float*>(w.scales)[index];
  }
}

template <int kBits>
void ReadRow(const PackedIntegers<kBits>& w, int row, float* out) {
  for (int i = 0; i < w.k; ++i) {
    const size_t at = ScaleIndex(w, row, i / w.segment);
    const int zero = w.zeros == nullptr ? w.kSymmetricZero : w.zeros[at];
    out[w.permutation == nullptr ? i : w.permutation[i]] =
        ScaleAt(w, at) * static_cast<float>(static_cast<int>(CodeAt(w, row, i)) - zero);
  }
}

// One row's values, columns in the file's order.
void ReadRow(const Linear& linear, int row, float* out) {
  switch (linear.storage) {
    case Linear::Storage::kW4:
      return ReadRow(linear.w4, row, out);
    case Linear::Storage::kW8:
      return ReadRow(linear.w8, row, out);
    default:
      return kernels::WidenToFloat(linear.dense.row(row), linear.dense.format,
                                   static_cast<size_t>(linear.dense.k), out);
  }
}

// The smallest format that has every value.
FloatFormat ExactFormat(const Linear& linear) {
  if (linear.storage == Linear::Storage::kDense) return linear.dense.format;
  std::vector<float> row(static_cast<size_t>(linear.k()));
  for (int r = 0; r < linear.n(); ++r) {
    ReadRow(linear, r, row.data());
    for (const float value : row) {
      if (kernels::F16ToFloat(kernels::FloatToF16(value)) != value) return FloatFormat::kF32;
    }
  }
  return FloatFormat::kF16;
}

// The value is one of the format, which is none of 8 bits.
void WriteFloat(float value, FloatFormat format, size_t index, uint8_t* out) {
  switch (format) {
    case FloatFormat::kF32:
      std::memcpy(out + 4 * index, &value, 4);
      return;
    case FloatFormat::kF16: {
      const uint16_t half = kernels::FloatToF16(value);
      std::memcpy(out + 2 * index, &half, 2);
      return;
    }
    case FloatFormat::kBF16: {
      uint32_t bits;
      std::memcpy(&bits, &value, 4);
      const auto half = static_cast<uint16_t>(bits >> 16);
      std::memcpy(out + 2 * index, &half, 2);
      return;
    }
    case FloatFormat::kE4M3:
      return;
  }
}

bool IsFp8(const Linear& linear) {
  return linear.storage == Linear::Storage::kDense && linear.dense.format == FloatFormat::kE4M3;
}

Linear DenseLinear(int n, int k, FloatFormat format, const uint8_t* data) {
  Linear linear;
  linear.storage = Linear::Storage::kDense;
  linear.dense = DenseMatrix{n, k, format, data, {}};
  return linear;
}

// Whether integer parts stand for the matrix.
template <int kBits>
bool StaysPacked(const PackedIntegers<kBits>& kv_b) {
  return kv_b.zeros == nullptr && kv_b.permutation == nullptr && kv_b.k % kv_b.segment == 0;
}

template <int kBits>
PackedIntegers<kBits> PackedShape(int n, int k, int segment, kernels::ScaleFormat scale_format) {
  PackedIntegers<kBits> w;
  w.n = n;
  w.k = k;
  w.segment = segment;
  w.scale_format = scale_format;
  return w;
}

template <int kBits>
size_t PackedBytes(const PackedIntegers<kBits>& w) {
  return PackedArena::Rounded(w.code_bytes()) +
         PackedArena::Rounded(w.scale_count() * kernels::ScaleBytes(w.scale_format));
}

Linear IntegerLinear(const PackedIntegers<4>& w) {
  Linear linear;
  linear.storage = Linear::Storage::kW4;
  linear.w4 = w;
  return linear;
}

Linear IntegerLinear(const PackedIntegers<8>& w) {
  Linear linear;
  linear.storage = Linear::Storage::kW8;
  linear.w8 = w;
  return linear;
}

// Of a head's value and of all its key parts, inputs' scales with them.
template <int kBits>
size_t PackedHeadBytes(int rank, int nope_dim, int v_dim, int segment,
                       kernels::ScaleFormat scale_format) {
  const auto value = PackedShape<kBits>(v_dim, rank, segment, scale_format);
  const auto key = PackedShape<kBits>(segment, nope_dim, kernels::kActivationGroup,
                                      kernels::ScaleFormat::kF16);
  const auto parts = static_cast<size_t>(rank / segment);
  return PackedBytes(value) +
         parts * (PackedBytes(key) +
                  PackedArena::Rounded(static_cast<size_t>(nope_dim) * sizeof(float)));
}

}  // namespace

class AbsorbedKvBuilder {
 public:
  AbsorbedKvBuilder(const Linear& kv_b, int num_heads, int nope_dim, int v_dim)
      : kv_b_(kv_b), num_heads_(num_heads), nope_dim_(nope_dim), v_dim_(v_dim), rank_(kv_b.k()) {}

  template <int kBits>
  absl::StatusOr<AbsorbedKv> Packed(const PackedIntegers<kBits>& all) {
    const auto value = PackedShape<kBits>(v_dim_, rank_, all.segment, all.scale_format);
    // Inputs that carry scales; the weights' own are 1.
    const auto key = PackedShape<kBits>(all.segment, nope_dim_, kernels::kActivationGroup,
                                        kernels::ScaleFormat::kF16);
    out_.parts_a_head_ = static_cast<size_t>(rank_ / all.segment);
    SHEAF_RETURN_IF_ERROR(
        Reserve(num_heads_ * PackedHeadBytes<kBits>(rank_, nope_dim_, v_dim_, all.segment,
                                                    all.scale_format)));
    for (int head = 0; head < num_heads_; ++head) {
      const int first = head * (nope_dim_ + v_dim_);
      for (int segment = 0; segment < rank_ / all.segment; ++segment)
        AddKeyPart(all, key, first, segment);
      AddValueRows(all, value, first + nope_dim_);
    }
    return std::move(out_);
  }

  absl::StatusOr<AbsorbedKv> Floats() {
    const FloatFormat format = ExactFormat(kv_b_);
    const size_t key_bytes = static_cast<size_t>(rank_) * nope_dim_ * kernels::FloatBytes(format);
    const size_t value_bytes = static_cast<size_t>(rank_) * v_dim_ * kernels::FloatBytes(format);
    SHEAF_RETURN_IF_ERROR(Reserve(
        num_heads_ * (PackedArena::Rounded(key_bytes) + PackedArena::Rounded(value_bytes))));
    std::vector<float> row(static_cast<size_t>(rank_));
    for (int head = 0; head < num_heads_; ++head) {
      const int first = head * (nope_dim_ + v_dim_);
      auto* const key = Allocate<uint8_t>(key_bytes);
      for (int i = 0; i < nope_dim_; ++i) {
        ReadRow(kv_b_, first + i, row.data());
        for (int j = 0; j < rank_; ++j)
          WriteFloat(row[j], format, static_cast<size_t>(j) * nope_dim_ + i, key);
      }
      auto* const value = Allocate<uint8_t>(value_bytes);
      for (int i = 0; i < v_dim_; ++i) {
        ReadRow(kv_b_, first + nope_dim_ + i, row.data());
        for (int j = 0; j < rank_; ++j)
          WriteFloat(row[j], format, static_cast<size_t>(i) * rank_ + j, value);
      }
      out_.key_parts_.push_back({DenseLinear(rank_, nope_dim_, format, key), 0, nullptr});
      out_.value_up_.push_back(DenseLinear(v_dim_, rank_, format, value));
    }
    return std::move(out_);
  }

  absl::StatusOr<AbsorbedKv> Fp8() {
    const kernels::BlockScales& all = kv_b_.dense.scales;
    const int blocks_down = (kv_b_.dense.n - 1 + all.first_row) / all.block_rows + 1;
    const size_t key_bytes = static_cast<size_t>(rank_) * nope_dim_;
    const size_t value_bytes = static_cast<size_t>(rank_) * v_dim_;
    const size_t num_scales = static_cast<size_t>(blocks_down) * all.stride;
    const size_t head_bytes = PackedArena::Rounded(key_bytes) + PackedArena::Rounded(value_bytes);
    SHEAF_RETURN_IF_ERROR(Reserve(2 * PackedArena::Rounded(num_scales * sizeof(float)) +
                                  num_heads_ * head_bytes));
    // Both for all heads, which begin anywhere in them.
    auto* const scales = Allocate<float>(num_scales);
    auto* const transposed = Allocate<float>(num_scales);
    std::copy_n(all.values, num_scales, scales);
    for (int row = 0; row < blocks_down; ++row) {
      for (int column = 0; column < all.stride; ++column) {
        transposed[static_cast<size_t>(column) * blocks_down + row] =
            scales[static_cast<size_t>(row) * all.stride + column];
      }
    }
    for (int head = 0; head < num_heads_; ++head) {
      const int first = head * (nope_dim_ + v_dim_);
      auto* const key = Allocate<uint8_t>(key_bytes);
      for (int i = 0; i < nope_dim_; ++i) {
        const uint8_t* const row = kv_b_.dense.row(first + i);
        for (int j = 0; j < rank_; ++j) key[static_cast<size_t>(j) * nope_dim_ + i] = row[j];
      }
      auto* const value = Allocate<uint8_t>(value_bytes);
      std::copy_n(kv_b_.dense.row(first + nope_dim_), value_bytes, value);

      const int key_row = first + all.first_row;
      Linear key_up = DenseLinear(rank_, nope_dim_, FloatFormat::kE4M3, key);
      key_up.dense.scales = {transposed + key_row / all.block_rows,
                             all.block_columns,
                             all.block_rows,
                             blocks_down,
                             all.first_column,
                             key_row % all.block_rows};
      out_.key_parts_.push_back({key_up, 0, nullptr});
      const int value_row = key_row + nope_dim_;
      Linear value_up = DenseLinear(v_dim_, rank_, FloatFormat::kE4M3, value);
      value_up.dense.scales = all;
      value_up.dense.scales.values =
          scales + static_cast<size_t>(value_row / all.block_rows) * all.stride;
      value_up.dense.scales.first_row = value_row % all.block_rows;
      out_.value_up_.push_back(value_up);
    }
    return std::move(out_);
  }

 private:
  absl::Status Reserve(size_t bytes) {
    out_.memory_bytes_ = bytes;
    SHEAF_ASSIGN_OR_RETURN(out_.memory_, PackedArena::Reserve(bytes));
    return absl::OkStatus();
  }

  template <typename T>
  T* Allocate(size_t count) {
    return static_cast<T*>(out_.memory_->Allocate(count * sizeof(T)));
  }

  // Columns of one segment, transposed: output j of the part is column `segment` * size + j.
  template <int kBits>
  void AddKeyPart(const PackedIntegers<kBits>& all, PackedIntegers<kBits> key, int first_row,
                  int segment) {
    auto* const codes = Allocate<uint32_t>(key.code_bytes() / sizeof(uint32_t));
    auto* const ones = Allocate<uint16_t>(key.scale_count());
    auto* const input_scales = Allocate<float>(static_cast<size_t>(nope_dim_));
    for (int i = 0; i < nope_dim_; ++i) {
      input_scales[i] = ScaleAt(all, ScaleIndex(all, first_row + i, segment));
      for (int j = 0; j < all.segment; ++j) {
        const CodePlace place = PlaceOf(key, j, i);
        codes[place.word] |= CodeAt(all, first_row + i, segment * all.segment + j) << place.shift;
      }
    }
    for (int j = 0; j < all.segment; ++j) {
      for (int s = 0; s < key.segments(); ++s) ones[ScaleIndex(key, j, s)] = kF16One;
    }
    key.codes = reinterpret_cast<const uint8_t*>(codes);
    key.scales = ones;
    out_.key_parts_.push_back({IntegerLinear(key), segment * all.segment, input_scales});
  }

  // Rows as they are; they need not begin at a row block.
  template <int kBits>
  void AddValueRows(const PackedIntegers<kBits>& all, PackedIntegers<kBits> value, int first_row) {
    const size_t scale_bytes = kernels::ScaleBytes(all.scale_format);
    auto* const codes = Allocate<uint32_t>(value.code_bytes() / sizeof(uint32_t));
    auto* const scales = Allocate<uint8_t>(value.scale_count() * scale_bytes);
    for (int row = 0; row < v_dim_; ++row) {
      for (int i = 0; i < rank_; i += 8) {
        for (int word = 0; word < kBits / 4; ++word) {  // of a step
          const size_t further = static_cast<size_t>(word) * kRowBlock;
          std::memcpy(&codes[WordIndex(value, row, i) + further],
                      all.codes + 4 * (WordIndex(all, first_row + row, i) + further), 4);
        }
      }
      for (int s = 0; s < value.segments(); ++s) {
        std::memcpy(scales + ScaleIndex(value, row, s) * scale_bytes,
                    static_cast<const uint8_t*>(all.scales) +
                        ScaleIndex(all, first_row + row, s) * scale_bytes,
                    scale_bytes);
      }
    }
    value.codes = reinterpret_cast<const uint8_t*>(codes);
    value.scales = scales;
    out_.value_up_.push_back(IntegerLinear(value));
  }

  const Linear& kv_b_;
  const int num_heads_, nope_dim_, v_dim_, rank_;
  AbsorbedKv out_;
};

size_t AbsorbedKv::MemoryBytes(const LinearPlan& kv_b, int nope_dim, int v_dim) {
  const size_t elements = static_cast<size_t>(kv_b.n) * kv_b.k;
  if (!kv_b.packed()) {
    size_t num_scales = 0;
    if (kv_b.quantized()) num_scales = kv_b.scales->bytes / DtypeBytes(kv_b.scales->dtype);
    return elements * DtypeBytes(kv_b.codes->dtype) + 2 * num_scales * sizeof(float);
  }
  if (kv_b.zero_points != ZeroPoints::kSymmetric) {
    return elements * (kv_b.scales->dtype == TensorDtype::kBF16 ? 2 : 4);
  }
  const size_t heads = static_cast<size_t>(kv_b.n / (nope_dim + v_dim));
  const int segment = std::clamp(kv_b.group_size, 1, kernels::kActivationGroup);
  const auto scale_format = kv_b.scales->dtype == TensorDtype::kF32 ? kernels::ScaleFormat::kF32
                                                                    : kernels::ScaleFormat::kF16;
  return heads *
         (kv_b.bits == 8 ? PackedHeadBytes<8>(kv_b.k, nope_dim, v_dim, segment, scale_format)
                         : PackedHeadBytes<4>(kv_b.k, nope_dim, v_dim, segment, scale_format));
}

absl::StatusOr<AbsorbedKv> AbsorbedKv::Build(const Linear& kv_b, int num_heads, int nope_dim,
                                             int v_dim) {
  SHEAF_CHECK(kv_b.n() == num_heads * (nope_dim + v_dim), "kv_b_proj has nope + v rows a head");
  AbsorbedKvBuilder builder(kv_b, num_heads, nope_dim, v_dim);
  if (IsFp8(kv_b)) return builder.Fp8();
  if (kv_b.storage == Linear::Storage::kW4 && StaysPacked(kv_b.w4)) return builder.Packed(kv_b.w4);
  if (kv_b.storage == Linear::Storage::kW8 && StaysPacked(kv_b.w8)) return builder.Packed(kv_b.w8);
  return builder.Floats();
}

}  // namespace sheaf
