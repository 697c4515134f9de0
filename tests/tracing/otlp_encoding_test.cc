// Spans as the protocol's bytes, read back; and the bytes themselves, so that a changed field
// number is noticed.
#include "tracing/otlp_encoding.h"

#include "gtest/gtest.h"
#include "sheaf/otlp/v1/trace.pb.h"

namespace sheaf {
namespace {

namespace pb = otlp::v1;

Span Example() {
  Span span;
  span.trace_id.fill(0xab);
  span.span_id.fill(0xcd);
  span.name = "n";
  span.kind = SpanKind::kServer;
  span.start_unix_nanos = 1;
  span.end_unix_nanos = 2;
  return span;
}

TEST(OtlpEncodingTest, FieldsHaveTheProtocolsNumbers) {
  // request.resource_spans(1) { scope_spans(2) { scope(1) {} spans(2) {...} } resource(1) {...} },
  // written by hand from the protocol's description: tag = number << 3 | wire type.
  const std::string span = std::string("\x0a\x10") + std::string(16, '\xab') + "\x12\x08" +
                           std::string(8, '\xcd') + "\x2a\x01n" + "\x30\x02" +
                           std::string("\x39\x01\0\0\0\0\0\0\0", 9) +
                           std::string("\x41\x02\0\0\0\0\0\0\0", 9) +
                           std::string("\x4a\x07\x0a\x01k\x12\x02\x18\x05", 9) +
                           std::string("\x7a\x06\x12\x02no\x18\x02", 8) +
                           std::string("\x85\x01\x01\x01\0\0", 6);
  const std::string scope("\x0a\x06\x0a\x01L\x12\x01V", 8);
  const auto wrapped = [](char tag, const std::string& inside) {
    return std::string(1, tag) + static_cast<char>(inside.size()) + inside;
  };
  const std::string resource("\x0a\x0a\x0a\x08\x0a\x01s\x12\x03\x0a\x01x", 12);
  const std::string scope_spans = wrapped('\x12', scope + wrapped('\x12', span));
  const std::string expected = wrapped('\x0a', resource + scope_spans);
  Span example = Example();
  example.attributes = {{"k", int64_t{5}}};
  example.failed = true;
  example.failure = "no";
  example.trace_flags = TraceContext::kSampled;
  const SpanSource source{{{"s", std::string("x")}}, "L", "V"};
  const std::string bytes = EncodeSpans(source, std::vector<Span>{example});
  const auto hex = [](const std::string& text) {
    return HexOf({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  };
  EXPECT_EQ(hex(bytes), hex(expected));
}

pb::Span OnlySpan(const std::string& bytes) {
  pb::ExportTraceServiceRequest request;
  EXPECT_TRUE(request.ParseFromString(bytes));
  return request.resource_spans(0).scope_spans(0).spans(0);
}

TEST(OtlpEncodingTest, EveryKindOfValueIsThere) {
  Span span = Example();
  span.attributes = {{"text", std::string("t")},
                     {"whole", int64_t{-3}},
                     {"number", 0.5},
                     {"flag", true},
                     {"list", std::vector<std::string>{"a", "b"}}};
  const pb::Span got = OnlySpan(EncodeSpans({}, std::vector<Span>{span}));
  ASSERT_EQ(got.attributes_size(), 5);
  EXPECT_EQ(got.attributes(0).value().string_value(), "t");
  EXPECT_EQ(got.attributes(1).value().int_value(), -3);
  EXPECT_EQ(got.attributes(2).value().double_value(), 0.5);
  EXPECT_TRUE(got.attributes(3).value().bool_value());
  EXPECT_EQ(got.attributes(4).value().array_value().values(1).string_value(), "b");
  EXPECT_FALSE(got.has_status()) << "unset unless it failed";
  EXPECT_TRUE(got.parent_span_id().empty());
}

TEST(OtlpEncodingTest, AParentIsHereOrElsewhere) {
  Span span = Example();
  span.parent_id.fill(1);
  span.trace_state = "a=1";
  span.trace_flags = 3;
  EXPECT_EQ(OnlySpan(EncodeSpans({}, std::vector<Span>{span})).flags(), 0x103u);
  span.parent_is_elsewhere = true;
  const pb::Span got = OnlySpan(EncodeSpans({}, std::vector<Span>{span}));
  EXPECT_EQ(got.flags(), 0x303u);
  EXPECT_EQ(got.parent_span_id(), std::string(8, '\1'));
  EXPECT_EQ(got.trace_state(), "a=1");
}

TEST(OtlpEncodingTest, WhatIsNotUtf8IsReplaced) {
  const auto name_of = [](const std::string& name) {
    Span span = Example();
    span.name = name;
    return OnlySpan(EncodeSpans({}, std::vector<Span>{span})).name();
  };
  const std::string good = "a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80";
  EXPECT_EQ(name_of(good), good);
  EXPECT_EQ(name_of("a\xff" "b"), "a?b");
  EXPECT_EQ(name_of("\xc3"), "?");
  EXPECT_EQ(name_of("\xc0\x80"), "??") << "overlong";
  EXPECT_EQ(name_of("\xed\xa0\x80"), "???") << "a surrogate";
  EXPECT_EQ(name_of("\xf4\x90\x80\x80"), "????") << "beyond the last";
}

TEST(OtlpEncodingTest, AnswersAreRead) {
  pb::ExportTraceServiceResponse response;
  EXPECT_EQ(DecodeExportAnswer(response.SerializeAsString()).rejected_spans, 0);
  response.mutable_partial_success()->set_rejected_spans(7);
  response.mutable_partial_success()->set_error_message("too old");
  const ExportAnswer answer = DecodeExportAnswer(response.SerializeAsString());
  EXPECT_EQ(answer.rejected_spans, 7);
  EXPECT_EQ(answer.message, "too old");
  EXPECT_EQ(DecodeExportAnswer("no such message").rejected_spans, 0);
}

}  // namespace
}  // namespace sheaf
