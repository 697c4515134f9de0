#pragma once
// FrameHeader: the 64 bytes in front of every message between router and expert workers.
//
// Layout (little-endian, docs/exchange_protocol.md):
//   0 u32 magic "SHF1"   4 u16 version   6 u8 kind      7 u8 dtype
//   8 u64 epoch         16 u64 step     24 i32 layer   28 i32 source (worker slot; -1 = router)
//  32 u32 chunk         36 u32 hidden   40 u32 tokens  44 u32 pairs
//  48 u32 experts       52 u32 zero     56 u64 payload_bytes
//
// Errors     DecodeFrameHeader: kInvalidArgument naming the field, wanted and got. A receiver
//            decodes strictly and drops what fails; nothing from the wire is trusted before.
// Threads    pure functions.

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/ids.h"

namespace sheaf {

inline constexpr size_t kFrameHeaderBytes = 64;
inline constexpr uint32_t kFrameMagic = 0x31464853;  // "SHF1"
inline constexpr uint16_t kFrameVersion = 1;
inline constexpr int32_t kRouterSource = -1;

// Bounds on what a header may claim, far above any model, so that sizes computed from it cannot
// overflow.
inline constexpr uint32_t kMaxFrameTokens = 1u << 16;
inline constexpr uint32_t kMaxFrameHidden = 1u << 16;
inline constexpr uint32_t kMaxFrameExperts = 1u << 14;
inline constexpr uint32_t kMaxFramePairs = 1u << 20;
inline constexpr int32_t kMaxFrameLayer = 1 << 12;
inline constexpr uint64_t kMaxErrorTextBytes = 4096;

enum class FrameKind : uint8_t {
  kHello = 1,     // router -> worker, first on a link; no payload
  kHelloAck = 2,  // its answer
  kDispatch = 3,  // exchange/dispatch_payload.h
  kCombine = 4,   // float32 [pairs][hidden], in the dispatch's pair order
  kError = 5,     // instead of a combine: UTF-8 text, why the worker could not
};

enum class FrameType : uint8_t {
  kNone = 0,
  kInt16Groups = 1,  // kernels/quantized_rows.h: planes and scales
  kFloat32 = 2,
  kText = 3,
};

struct FrameHeader {
  FrameKind kind = FrameKind::kHello;
  FrameType type = FrameType::kNone;
  Epoch epoch;
  StepId step;
  LayerId layer;
  int32_t source = kRouterSource;
  uint32_t chunk = 0;   // part of a batch that is too long for one message
  uint32_t hidden = 0;  // floats of a token vector
  uint32_t tokens = 0;
  uint32_t pairs = 0;    // (token, expert)
  uint32_t experts = 0;  // distinct experts
  uint64_t payload_bytes = 0;

  friend bool operator==(const FrameHeader&, const FrameHeader&) = default;
};

using FrameHeaderBytes = std::array<uint8_t, kFrameHeaderBytes>;
static_assert(sizeof(FrameHeaderBytes) == 64, "the wire format fixes the size");

FrameHeaderBytes EncodeFrameHeader(const FrameHeader& header);
absl::StatusOr<FrameHeader> DecodeFrameHeader(std::span<const uint8_t> bytes);

// What ties a combine to its dispatch.
struct ExchangeKey {
  uint64_t epoch = 0;
  uint64_t step = 0;
  int32_t layer = 0;
  uint32_t chunk = 0;
  friend auto operator<=>(const ExchangeKey&, const ExchangeKey&) = default;
};
ExchangeKey KeyOf(const FrameHeader& header);

// "dispatch epoch 3 step 12 layer 7 chunk 0", for messages.
std::string Describe(const FrameHeader& header);

// The header that answers `dispatch` with `pairs` float vectors, or with `text_bytes` of error
// text.
FrameHeader CombineHeaderFor(const FrameHeader& dispatch, WorkerId source);
FrameHeader ErrorHeaderFor(const FrameHeader& dispatch, WorkerId source, uint64_t text_bytes);

}  // namespace sheaf
