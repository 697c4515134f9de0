#pragma once
// Spans as bytes of OTLP/HTTP (protobuf), and the collector's answer from bytes.
//
// Threads  pure. Cost: about 1 us a span. Texts that are not UTF-8 are sent with '?' for the bytes
//          that are not, as a collector would refuse the whole batch for one of them.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "tracing/span.h"

namespace sheaf {

// An ExportTraceServiceRequest.
std::string EncodeSpans(const SpanSource& source, std::span<const Span> spans);

struct ExportAnswer {
  int64_t rejected_spans = 0;
  std::string message;  // why; or a warning
};

// Of an ExportTraceServiceResponse. What cannot be read counts as an empty one: the collector has
// said by its HTTP status that it has the spans.
ExportAnswer DecodeExportAnswer(std::string_view bytes);

}  // namespace sheaf
