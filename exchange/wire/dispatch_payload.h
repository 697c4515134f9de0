#pragma once
// The payload of a dispatch: the quantized rows that a worker needs and which expert reads which of
// them.
//
//   planes  [tokens][groups][256]   signed bytes, kernels/linear/quantized_rows.h
//   scales  [tokens][groups]        float32; of kInt8Groups [groups][128] and [groups][4]
//   runs    [experts]{expert, rows} int32 each, ascending expert, rows >= 1
//   rows    [pairs]                 int32 index of a token, expert by expert, there ascending
// all little-endian, no padding between. The combine answers with one vector a pair, in this order
// (exchange/wire/combine_payload.h).
//
// Errors     DecodeDispatch: kInvalidArgument naming what is wrong; it proves every index before
//            anyone uses it.
// Ownership  a DispatchView borrows the payload, which must be 4-byte aligned.
// Threads    pure; EncodeDispatch may use the pool for many tokens.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "base/thread_pool.h"
#include "exchange/wire/frame.h"
#include "exchange/wire/worker_plan.h"
#include "kernels/linear/quantized_rows.h"

namespace sheaf {

// Offsets of the four parts; encoder and decoder use this one list.
struct DispatchLayout {
  DispatchLayout(kernels::ActivationBits bits, uint64_t tokens, uint64_t hidden, uint64_t experts,
                 uint64_t pairs);
  uint64_t scales_at = 0;
  uint64_t runs_at = 0;
  uint64_t rows_at = 0;
  uint64_t total_bytes = 0;
};

// Fills `header` (sizes; the caller sets sequence, step, layer, model, answer) and writes the
// payload to `out`, which has DispatchBytes() bytes. `x` is the batch that plan.token_rows indexes.
uint64_t DispatchBytes(const WorkerPlan& plan, const kernels::QuantizedRows& x);
void EncodeDispatch(ThreadPool& pool, const WorkerPlan& plan, const kernels::QuantizedRows& x,
                    FrameHeader& header, uint8_t* out);

struct DispatchView {
  kernels::QuantizedRows x;  // without sums
  std::span<const int32_t> rows;
  std::vector<ExpertRun> experts;
};

absl::Status DecodeDispatch(const FrameHeader& header, std::span<const uint8_t> payload,
                            DispatchView& view);

}  // namespace sheaf
