#include "exchange/wire/holdings.h"

#include <bit>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "exchange/wire/frame.h"

namespace sheaf {
namespace {

constexpr size_t kFrontBytes = 16;

template <typename T>
void Append(std::string& out, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) out.push_back(static_cast<char>(value >> (8 * i)));
}

uint64_t Read(std::span<const uint8_t> bytes, size_t at, size_t count) {
  uint64_t value = 0;
  for (size_t i = 0; i < count; ++i) value |= uint64_t{bytes[at + i]} << (8 * i);
  return value;
}

template <typename W, typename G>
absl::Status Wrong(const char* what, const W& wanted, const G& got) {
  return absl::InvalidArgumentError(
      absl::StrCat("holdings: ", what, ": wanted ", wanted, ", got ", got));
}

size_t BitsOf(int layers, int experts) {
  return static_cast<size_t>(layers) * static_cast<size_t>(experts);
}

}  // namespace

Holdings::Holdings(int num_layers, int num_experts)
    : num_layers_(num_layers), num_experts_(num_experts) {
  SHEAF_CHECK(num_layers >= 0 && num_layers <= kMaxFrameLayer && num_experts >= 0 &&
                  num_experts <= static_cast<int>(kMaxFrameExperts),
              "the model's shape was checked when it was read");
  words_.resize((BitsOf(num_layers, num_experts) + 63) / 64);
}

bool Holdings::Inside(LayerId layer, ExpertId expert) const {
  return layer.value() >= 0 && layer.value() < num_layers_ && expert.value() >= 0 &&
         expert.value() < num_experts_;
}

size_t Holdings::Index(LayerId layer, ExpertId expert) const {
  return BitsOf(layer.value(), num_experts_) + static_cast<size_t>(expert.value());
}

bool Holdings::Has(LayerId layer, ExpertId expert) const {
  if (!Inside(layer, expert)) return false;
  const size_t at = Index(layer, expert);
  return (words_[at / 64] >> (at % 64) & 1) != 0;
}

void Holdings::Add(LayerId layer, ExpertId expert) {
  SHEAF_CHECK(Inside(layer, expert), "only experts of the model are held");
  const size_t at = Index(layer, expert);
  words_[at / 64] |= uint64_t{1} << (at % 64);
}

void Holdings::Remove(LayerId layer, ExpertId expert) {
  if (!Inside(layer, expert)) return;
  const size_t at = Index(layer, expert);
  words_[at / 64] &= ~(uint64_t{1} << (at % 64));
}

int64_t Holdings::count() const {
  int64_t held = 0;
  for (const uint64_t word : words_) held += std::popcount(word);
  return held;
}

std::vector<LayerExpert> Holdings::List() const {
  std::vector<LayerExpert> list;
  for (size_t i = 0; i < words_.size(); ++i) {
    for (uint64_t word = words_[i]; word != 0; word &= word - 1) {
      const size_t at = 64 * i + static_cast<size_t>(std::countr_zero(word));
      const size_t experts = static_cast<size_t>(num_experts_);
      list.push_back({LayerId(static_cast<int32_t>(at / experts)),
                      ExpertId(static_cast<int32_t>(at % experts))});
    }
  }
  return list;
}

std::string Holdings::Encode() const {
  const size_t bitmap_bytes = (BitsOf(num_layers_, num_experts_) + 7) / 8;
  std::string out;
  out.reserve(kFrontBytes + bitmap_bytes);
  Append<uint64_t>(out, number);
  Append<uint32_t>(out, static_cast<uint32_t>(num_layers_));
  Append<uint32_t>(out, static_cast<uint32_t>(num_experts_));
  for (size_t i = 0; i < bitmap_bytes; ++i)
    out.push_back(static_cast<char>(words_[i / 8] >> (8 * (i % 8))));
  return out;
}

absl::StatusOr<Holdings> Holdings::Decode(std::span<const uint8_t> bytes, int num_layers,
                                          int num_experts) {
  Holdings holdings(num_layers, num_experts);
  const size_t bits = BitsOf(num_layers, num_experts);
  const size_t wanted = kFrontBytes + (bits + 7) / 8;
  if (bytes.size() < kFrontBytes) return Wrong("bytes", wanted, bytes.size());
  const auto layers = static_cast<int32_t>(Read(bytes, 8, 4));
  const auto experts = static_cast<int32_t>(Read(bytes, 12, 4));
  if (layers != num_layers) return Wrong("layers", num_layers, layers);
  if (experts != num_experts) return Wrong("experts a layer", num_experts, experts);
  if (bytes.size() != wanted) return Wrong("bytes", wanted, bytes.size());
  holdings.number = Read(bytes, 0, 8);
  for (size_t i = kFrontBytes; i < bytes.size(); ++i) {
    const size_t at = i - kFrontBytes;
    holdings.words_[at / 8] |= uint64_t{bytes[i]} << (8 * (at % 8));
  }
  if (bits % 64 != 0 && holdings.words_.back() >> (bits % 64) != 0)
    return Wrong("bits after the last expert", 0, int{bytes.back()});
  return holdings;
}

}  // namespace sheaf
