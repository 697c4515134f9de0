#pragma once
// The payload of a combine: one vector of `hidden` numbers a (token, expert) pair, in the
// dispatch's pair order, as the dispatch asked for them.
//
//   float32       [pairs][hidden]
//   int16 groups  planes [pairs][groups][256] signed bytes, then scales [pairs][groups] float32
//                 (kernels/linear/quantized_rows.h): half the bytes. A vector is rounded by itself,
//                 so the numbers depend neither on who computed it nor on its neighbours.
//
// CombineView   proves the sizes once, then gives rows as float32. float32 rows are read where they
//               lie; int16 rows are expanded into the caller's memory.
//
// Errors     kInvalidArgument: header and payload do not agree, or the payload is not 4-byte
//            aligned.
// Threads    pure; a view may be read by many.

#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/thread_pool.h"
#include "exchange/wire/frame.h"

namespace sheaf {

class CombineView {
 public:
  static absl::StatusOr<CombineView> Decode(const FrameHeader& header,
                                            std::span<const uint8_t> payload);
  bool is_float32() const { return element_ == FrameElement::kFloat32; }
  // Row `pair` in place; only of float32.
  const float* Row(size_t pair) const;
  // Row `pair` expanded into out[hidden]; of either element.
  void Expand(size_t pair, float* out) const;

 private:
  FrameElement element_ = FrameElement::kFloat32;
  size_t pairs_ = 0;
  size_t hidden_ = 0;
  std::span<const uint8_t> payload_;
};

// vectors [pairs][hidden] -> out [CombineBytes(kInt16Groups, pairs, hidden)].
void EncodeInt16Combine(ThreadPool& pool, const float* vectors, size_t pairs, size_t hidden,
                        uint8_t* out);

// What a vector is after a trip as int16 groups: for experts that run in the router's own process,
// so that its numbers are those of any cluster. In place.
void RoundToInt16Groups(float* vector, size_t hidden);

}  // namespace sheaf
