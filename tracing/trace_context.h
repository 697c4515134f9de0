#pragma once
// TraceContext: which trace a request belongs to, as W3C Trace Context (level 2) writes it into the
// fields traceparent and tracestate of HTTP headers and gRPC metadata.
//
//   traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
//                version, trace id, id of the caller's span, flags (01: the caller keeps it)
//
// Threads  pure. Cost: O(bytes); one small allocation where there is a tracestate.
// Errors   nullopt for anything that is not exactly what the recommendation allows: such a field
//          counts as not sent, it never makes a request fail.

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace sheaf {

using TraceId = std::array<uint8_t, 16>;  // all zero: none
using SpanId = std::array<uint8_t, 8>;    // all zero: none

struct TraceContext {
  static constexpr uint8_t kSampled = 1;  // whoever began the trace keeps it
  static constexpr uint8_t kRandom = 2;   // the last 56 bits of its id are random

  TraceId trace_id{};
  SpanId span_id{};         // of whoever speaks: the caller's span, in a context that was received
  uint8_t flags = 0;        // kSampled, kRandom; other bits are not kept
  std::string trace_state;  // of other systems, as they sent it; at most kMaxStateBytes

  static constexpr size_t kMaxStateBytes = 512;

  bool sampled() const { return (flags & kSampled) != 0; }
};

// Lower case hexadecimal digits.
std::string HexOf(std::span<const uint8_t> bytes);

// Without trace_state. Of a version that is not known, what version 00 has is read.
std::optional<TraceContext> ParseTraceparent(std::string_view value);
std::string FormatTraceparent(const TraceContext& context);

// The members of a tracestate, joined by commas, without blanks and empty members. Above
// kMaxStateBytes members are left out: first those of more than 128 bytes, then from the end.
// nullopt: a member is wrong, a key comes twice, or there are more than 32.
std::optional<std::string> ParseTracestate(std::string_view value);

// From the values of the two fields as they came, one for each time that a field was sent. A second
// traceparent makes both doubtful: nullopt. A wrong tracestate is dropped alone.
std::optional<TraceContext> ReadTraceContext(std::span<const std::string_view> traceparents,
                                             std::span<const std::string_view> tracestates);

}  // namespace sheaf
