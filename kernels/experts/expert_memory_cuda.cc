#include "kernels/experts/expert_memory_cuda.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace sheaf::kernels::cuda {
namespace {

constexpr size_t kAlignment = 256;
constexpr const char* kNames[3] = {"gate", "up", "down"};

const Linear& LinearOf(const ExpertWeights& weights, int matrix) {
  return matrix == 0 ? weights.gate : matrix == 1 ? weights.up : weights.down;
}

size_t Take(size_t& end, size_t bytes) {
  const size_t at = end;
  end += (bytes + kAlignment - 1) / kAlignment * kAlignment;
  return at;
}

bool SamePermutation(const PackedW4& a, const PackedW4& b) {
  if (a.permutation == nullptr || b.permutation == nullptr || a.k != b.k) return false;
  return a.permutation == b.permutation ||
         std::equal(a.permutation, a.permutation + a.k, b.permutation);
}

}  // namespace

absl::StatusOr<ExpertMemory> ExpertMemory::Plan(const ExpertWeights& weights) {
  ExpertMemory memory;
  for (int i = 0; i < 3; ++i) {
    const Linear& linear = LinearOf(weights, i);
    if (linear.storage != Linear::Storage::kW4) {
      return absl::UnimplementedError(
          absl::StrCat("an expert's ", kNames[i], " is stored as ",
                       linear.storage == Linear::Storage::kW8 ? "8-bit integers" : "floats",
                       ": CUDA kernels are for 4-bit experts"));
    }
    const PackedW4& w = linear.w4;
    Matrix& to = memory.matrices_[i];
    to.matrix.n = w.n;
    to.matrix.k = w.k;
    to.matrix.segment = w.segment;
    to.matrix.scale_format = w.scale_format;
    size_t& end = memory.bytes_;
    to.codes = Take(end, w.code_bytes());
    to.scales = Take(end, w.scale_count() * ScaleBytes(w.scale_format));
    if (w.zeros != nullptr) to.zeros = Take(end, w.scale_count());
    if (linear.bias != nullptr) to.bias = Take(end, sizeof(float) * w.n);
    if (w.permutation == nullptr) continue;
    to.permutation = i == 1 && SamePermutation(weights.gate.w4, w)
                         ? memory.matrices_[0].permutation
                         : Take(end, sizeof(int32_t) * w.k);
  }
  return memory;
}

bool ExpertMemory::permuted() const {
  return std::any_of(std::begin(matrices_), std::end(matrices_),
                     [](const Matrix& matrix) { return matrix.permutation != kAbsent; });
}

DeviceExpert ExpertMemory::At(const std::byte* memory) const {
  const auto matrix = [&](const Matrix& of) {
    DeviceMatrix w = of.matrix;
    w.codes = reinterpret_cast<const uint8_t*>(memory + of.codes);
    w.scales = reinterpret_cast<const uint8_t*>(memory + of.scales);
    if (of.zeros != kAbsent) w.zeros = reinterpret_cast<const uint8_t*>(memory + of.zeros);
    if (of.bias != kAbsent) w.bias = reinterpret_cast<const float*>(memory + of.bias);
    if (of.permutation != kAbsent) {
      w.permutation = reinterpret_cast<const int32_t*>(memory + of.permutation);
    }
    return w;
  };
  return {matrix(matrices_[0]), matrix(matrices_[1]), matrix(matrices_[2])};
}

std::vector<ExpertPiece> ExpertMemory::Pieces(const ExpertWeights& weights,
                                              size_t most_bytes) const {
  std::vector<ExpertPiece> pieces;
  const size_t most = std::max<size_t>(most_bytes / kTileBytes, 1) * kTileBytes;
  const auto add = [&](const void* host, size_t bytes, size_t at, bool codes) {
    if (host == nullptr || at == kAbsent) return;
    for (size_t done = 0; done < bytes; done += most) {
      pieces.push_back({.host = static_cast<const std::byte*>(host) + done,
                        .bytes = std::min(most, bytes - done),
                        .at = at + done,
                        .codes = codes});
    }
  };
  for (int i = 0; i < 3; ++i) {
    const Linear& linear = LinearOf(weights, i);
    const PackedW4& w = linear.w4;
    const Matrix& to = matrices_[i];
    add(w.codes, w.code_bytes(), to.codes, true);
    add(w.scales, w.scale_count() * ScaleBytes(w.scale_format), to.scales, false);
    add(w.zeros, w.scale_count(), to.zeros, false);
    add(linear.bias, sizeof(float) * w.n, to.bias, false);
    const bool shared = i == 1 && to.permutation == matrices_[0].permutation;
    if (!shared) add(w.permutation, sizeof(int32_t) * w.k, to.permutation, false);
  }
  return pieces;
}

}  // namespace sheaf::kernels::cuda
