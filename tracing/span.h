#pragma once
// Span: one stretch of time of a trace, ready to be sent: immutable once it is handed over.
//
// Times are nanoseconds since 1970 (UTC); ids as in trace_context.h.

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "tracing/trace_context.h"

namespace sheaf {

struct SpanAttribute {
  std::string key;
  std::variant<std::string, int64_t, double, bool, std::vector<std::string>> value;
};

enum class SpanKind { kInternal, kServer, kClient };

struct Span {
  TraceId trace_id{};
  SpanId span_id{};
  SpanId parent_id{};              // all zero: the trace begins here
  bool parent_is_elsewhere = false;  // in the process that called
  uint8_t trace_flags = 0;
  std::string trace_state;
  std::string name;
  SpanKind kind = SpanKind::kInternal;
  int64_t start_unix_nanos = 0;
  int64_t end_unix_nanos = 0;  // >= start
  std::vector<SpanAttribute> attributes;
  bool failed = false;
  std::string failure;  // where it failed
};

// Who speaks: the same for all spans of a process.
struct SpanSource {
  std::vector<SpanAttribute> resource;  // service.name, ...
  std::string library;                  // who measured
  std::string library_version;
};

}  // namespace sheaf
