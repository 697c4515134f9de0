#pragma once
// FrameHeader: the 64 bytes in front of every message on a link between a router and an expert
// worker.
//
// Layout (little-endian, docs/exchange_protocol.md):
//   0 u32 magic "SHF2"   4 u16 version    6 u8 kind        7 u8 element
//   8 u64 link          16 u64 sequence  24 u64 step
//  32 i32 layer         36 u32 model     40 u32 hidden    44 u32 tokens
//  48 u32 pairs         52 u16 experts   54 u8 answer     55 u8 zero     56 u64 payload_bytes
//
// link      the incarnation that both ends agreed on in the hello; a frame of another one is void
// sequence  of the dispatch on its link, from 1; its answer carries the same
// model     low half of the checkpoint's digest
// answer    in a dispatch: the element that the combine shall have
//
// Errors     DecodeFrameHeader: kInvalidArgument naming the field, wanted and got. A receiver
//            decodes strictly and drops what fails; nothing from the wire is trusted before.
// Threads    pure functions.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/ids.h"

namespace sheaf {

inline constexpr size_t kFrameHeaderBytes = 64;
inline constexpr uint32_t kFrameMagic = 0x32464853;  // "SHF2"
inline constexpr uint16_t kFrameVersion = 2;

// Bounds on what a header may claim, far above any model, so that sizes computed from it cannot
// overflow.
inline constexpr uint32_t kMaxFrameTokens = 1u << 16;
inline constexpr uint32_t kMaxFrameHidden = 1u << 16;
inline constexpr uint32_t kMaxFrameExperts = 1u << 14;
inline constexpr uint32_t kMaxFramePairs = 1u << 20;
inline constexpr int32_t kMaxFrameLayer = 1 << 12;
inline constexpr uint64_t kMaxErrorTextBytes = 4096;
inline constexpr uint64_t kMaxFramePayloadBytes = uint64_t{16} << 30;

enum class FrameKind : uint8_t {
  kDispatch = 1,      // router -> worker: exchange/wire/dispatch_payload.h
  kCombine = 2,       // its answer: exchange/wire/combine_payload.h
  kError = 3,         // instead of a combine: UTF-8 text, why the worker could not
  kNotHeld = 4,       // instead of a combine: int32 [experts], what is asked for and not here
  kHoldings = 5,      // worker -> router: exchange/wire/holdings.h; `sequence` is its number
  kHoldingsSeen = 6,  // router -> worker: nothing that `sequence` took away is asked for after this
  // Among attention ranks (exchange/gather/link_ranks.h); `layer` is the rank whose part it is:
  kStepPlan = 7,  // rank 0 -> others: what the step computes (router/attention/step_plan.h)
  kPart = 8,      // a rank's part of gather `sequence` of the step
  kStepOver = 9,  // UTF-8 text: why the step ends before its end
};

enum class FrameElement : uint8_t {
  kNone = 0,
  kInt16Groups = 1,  // kernels/linear/quantized_rows.h: planes and scales
  kFloat32 = 2,
  kText = 3,
  kExpertIds = 4,
  kBitmap = 5,
  kInt8Groups = 6,  // the same of 8 bits; of dispatches
};

struct FrameHeader {
  FrameKind kind = FrameKind::kDispatch;
  FrameElement element = FrameElement::kNone;
  LinkId link;
  uint64_t sequence = 0;
  StepId step;
  LayerId layer;
  uint32_t model = 0;
  uint32_t hidden = 0;  // floats of a token vector
  uint32_t tokens = 0;
  uint32_t pairs = 0;    // (token, expert)
  uint32_t experts = 0;  // distinct experts
  FrameElement answer = FrameElement::kNone;
  uint64_t payload_bytes = 0;

  friend bool operator==(const FrameHeader&, const FrameHeader&) = default;
};

using FrameHeaderBytes = std::array<uint8_t, kFrameHeaderBytes>;
static_assert(sizeof(FrameHeaderBytes) == 64, "the wire format fixes the size");

FrameHeaderBytes EncodeFrameHeader(const FrameHeader& header);
absl::StatusOr<FrameHeader> DecodeFrameHeader(std::span<const uint8_t> bytes);

// "dispatch 17 of step 12 layer 7", for messages.
std::string Describe(const FrameHeader& header);

// Bytes of `pairs` vectors of `hidden` floats as `element` (kFloat32 or kInt16Groups).
uint64_t CombineBytes(FrameElement element, uint64_t pairs, uint64_t hidden);

// The headers that answer `dispatch`.
FrameHeader CombineHeaderFor(const FrameHeader& dispatch);
FrameHeader ErrorHeaderFor(const FrameHeader& dispatch, uint64_t text_bytes);
FrameHeader NotHeldHeaderFor(const FrameHeader& dispatch, uint32_t experts);

}  // namespace sheaf
