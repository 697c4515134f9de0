#include "tracing/otlp_encoding.h"

#include <type_traits>

#include "sheaf/otlp/v1/trace.pb.h"

namespace sheaf {
namespace {

namespace pb = ::sheaf::otlp::v1;

// Bytes of a well-formed character at the beginning of `text` (RFC 3629); 0: none.
size_t CharacterBytes(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  size_t bytes = 0;
  if (first >= 0xc2 && first < 0xf5) bytes = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  if (bytes == 0 || text.size() < bytes) return 0;
  for (size_t i = 1; i < bytes; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  const unsigned char second = byte(1);
  const bool overlong = (first == 0xe0 && second < 0xa0) || (first == 0xf0 && second < 0x90);
  const bool surrogate = first == 0xed && second >= 0xa0;
  const bool too_large = first == 0xf4 && second >= 0x90;
  return overlong || surrogate || too_large ? 0 : bytes;
}

std::string Utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const size_t bytes = CharacterBytes(text);
    if (bytes == 0) {
      out += '?';
    } else {
      out += text.substr(0, bytes);
    }
    text.remove_prefix(bytes == 0 ? 1 : bytes);
  }
  return out;
}

void SetAttribute(const SpanAttribute& attribute, pb::KeyValue& to) {
  to.set_key(Utf8(attribute.key));
  pb::AnyValue& value = *to.mutable_value();
  std::visit(
      [&](const auto& got) {
        using Type = std::decay_t<decltype(got)>;
        if constexpr (std::is_same_v<Type, std::string>) {
          value.set_string_value(Utf8(got));
        } else if constexpr (std::is_same_v<Type, bool>) {
          value.set_bool_value(got);
        } else if constexpr (std::is_same_v<Type, int64_t>) {
          value.set_int_value(got);
        } else if constexpr (std::is_same_v<Type, double>) {
          value.set_double_value(got);
        } else {
          pb::ArrayValue& list = *value.mutable_array_value();
          for (const std::string& text : got) list.add_values()->set_string_value(Utf8(text));
        }
      },
      attribute.value);
}

template <size_t N>
std::string Bytes(const std::array<uint8_t, N>& id) {
  return {reinterpret_cast<const char*>(id.data()), id.size()};
}

pb::Span::Kind KindOf(SpanKind kind) {
  switch (kind) {
    case SpanKind::kInternal:
      return pb::Span::KIND_INTERNAL;
    case SpanKind::kServer:
      return pb::Span::KIND_SERVER;
    case SpanKind::kClient:
      return pb::Span::KIND_CLIENT;
  }
  return pb::Span::KIND_UNSPECIFIED;
}

void SetSpan(const Span& span, pb::Span& to) {
  constexpr uint32_t kParentIsKnown = 0x100, kParentIsElsewhere = 0x200;
  to.set_trace_id(Bytes(span.trace_id));
  to.set_span_id(Bytes(span.span_id));
  to.set_trace_state(Utf8(span.trace_state));
  if (span.parent_id != SpanId{}) to.set_parent_span_id(Bytes(span.parent_id));
  to.set_flags(span.trace_flags | kParentIsKnown |
               (span.parent_is_elsewhere ? kParentIsElsewhere : 0));
  to.set_name(Utf8(span.name));
  to.set_kind(KindOf(span.kind));
  to.set_start_time_unix_nano(static_cast<uint64_t>(span.start_unix_nanos));
  to.set_end_time_unix_nano(static_cast<uint64_t>(span.end_unix_nanos));
  for (const SpanAttribute& attribute : span.attributes) {
    SetAttribute(attribute, *to.add_attributes());
  }
  if (!span.failed) return;
  to.mutable_status()->set_code(pb::Status::CODE_ERROR);
  to.mutable_status()->set_message(Utf8(span.failure));
}

}  // namespace

std::string EncodeSpans(const SpanSource& source, std::span<const Span> spans) {
  pb::ExportTraceServiceRequest request;
  pb::ResourceSpans& of_process = *request.add_resource_spans();
  for (const SpanAttribute& attribute : source.resource) {
    SetAttribute(attribute, *of_process.mutable_resource()->add_attributes());
  }
  pb::ScopeSpans& of_library = *of_process.add_scope_spans();
  of_library.mutable_scope()->set_name(source.library);
  of_library.mutable_scope()->set_version(source.library_version);
  for (const Span& span : spans) SetSpan(span, *of_library.add_spans());
  return request.SerializeAsString();
}

ExportAnswer DecodeExportAnswer(std::string_view bytes) {
  pb::ExportTraceServiceResponse response;
  if (!response.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return {};
  return {response.partial_success().rejected_spans(), response.partial_success().error_message()};
}

}  // namespace sheaf
