// What W3C Trace Context allows is read, and nothing else.
#include "tracing/trace_context.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace sheaf {
namespace {

constexpr char kGood[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

TEST(TraceContextTest, ATraceparentIsReadAndWritten) {
  const auto context = ParseTraceparent(kGood);
  ASSERT_TRUE(context.has_value());
  EXPECT_EQ(HexOf(context->trace_id), "0af7651916cd43dd8448eb211c80319c");
  EXPECT_EQ(HexOf(context->span_id), "b7ad6b7169203331");
  EXPECT_TRUE(context->sampled());
  EXPECT_EQ(FormatTraceparent(*context), kGood);
}

TEST(TraceContextTest, FlagsThatAreNotKnownAreNotKept) {
  const std::string ids = std::string(kGood).substr(0, 53);
  const auto flags = [&](const char* text) { return ParseTraceparent(ids + text)->flags; };
  EXPECT_EQ(flags("00"), 0);
  EXPECT_EQ(flags("01"), TraceContext::kSampled);
  EXPECT_EQ(flags("02"), TraceContext::kRandom);
  EXPECT_EQ(flags("ff"), TraceContext::kSampled | TraceContext::kRandom);
  EXPECT_FALSE(ParseTraceparent(ids + "fe")->sampled());
}

TEST(TraceContextTest, ALaterVersionMaySayMore) {
  const std::string later = "cc" + std::string(kGood).substr(2);
  for (const std::string& text : {later, later + "-", later + "-what.the-future will be like"}) {
    const auto context = ParseTraceparent(text);
    ASSERT_TRUE(context.has_value()) << text;
    EXPECT_EQ(FormatTraceparent(*context), kGood) << "as version 00";
  }
  EXPECT_FALSE(ParseTraceparent(later + ".more").has_value());
}

TEST(TraceContextTest, WhatIsNoTraceparentIsNone) {
  const std::vector<std::string> wrong = {
      "",
      "00",
      "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",   // no version
      "0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",    // too short
      "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
      "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",  // version 00 says no more
      "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
      "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0101",
      "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",   // upper case
      "00-0af7651916cd43dd8448eb211c80319c-B7AD6B7169203331-01",
      "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0A",
      "0X-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
      "00-00000000000000000000000000000000-b7ad6b7169203331-01",   // all zero
      "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
      "00-0af7651916cd43dd8448eb211c8031-9cb7ad6b7169203331-01",   // other lengths
      "00_0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331_01",
      "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331 01",
      "00-0af7651916cd43dd8448eb211c8031.c-b7ad6b7169203331-01",   // other characters
      "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333\xc3-01",
  };
  for (const std::string& text : wrong) EXPECT_FALSE(ParseTraceparent(text).has_value()) << text;
}

TEST(TraceContextTest, ATracestateIsTidied) {
  EXPECT_EQ(ParseTracestate("congo=t61rcWkgMzE"), "congo=t61rcWkgMzE");
  EXPECT_EQ(ParseTracestate(" a=1 ,\tb=x y:z\t, ,,c/d-e_f*=!"), "a=1,b=x y:z,c/d-e_f*=!");
  EXPECT_EQ(ParseTracestate("fw529a@dt=FfAA,1tenant@sys=0"), "fw529a@dt=FfAA,1tenant@sys=0");
  EXPECT_EQ(ParseTracestate(""), "");
}

TEST(TraceContextTest, AWrongTracestateIsNone) {
  const std::vector<std::string> wrong = {
      "a",     "=1",    "a=",          "A=1",   "a b=1",      "a=1=2",
      "@a=1",  "a=\x01", "a=\xc3\xa4", "a =1",  "a=1,b,c=2",  "a=1,b=2,a=3",
      std::string(257, 'a') + "=1",    "a=" + std::string(257, 'x')};
  for (const std::string& text : wrong) EXPECT_FALSE(ParseTracestate(text).has_value()) << text;
}

std::string Members(int count, size_t value_bytes) {
  std::string text;
  for (int i = 0; i < count; ++i) {
    text += (i > 0 ? ",k" : "k") + std::to_string(i) + "=" + std::string(value_bytes, 'v');
  }
  return text;
}

TEST(TraceContextTest, ATracestateHasBounds) {
  EXPECT_TRUE(ParseTracestate(Members(32, 1)).has_value());
  EXPECT_FALSE(ParseTracestate(Members(33, 1)).has_value());
  EXPECT_TRUE(ParseTracestate(std::string(256, 'a') + "=" + std::string(255, 'x')).has_value());
  // Too long in all: the long ones first, then from the end.
  const std::string many = Members(32, 19);
  const auto cut = ParseTracestate("big=" + std::string(200, 'b') + "," + many);
  EXPECT_FALSE(cut.has_value()) << "33 members";
  const std::string fewer = Members(22, 19);
  const std::string expected = *ParseTracestate(fewer);
  ASSERT_GT(expected.size() + 205, TraceContext::kMaxStateBytes);
  EXPECT_EQ(ParseTracestate("big=" + std::string(200, 'b') + "," + fewer), Members(21, 19))
      << "without the long one, and without the last";
  EXPECT_LE(Members(21, 19).size(), TraceContext::kMaxStateBytes);
  EXPECT_GT(fewer.size(), TraceContext::kMaxStateBytes);
}

TEST(TraceContextTest, FieldsAreReadTogether) {
  using Values = std::vector<std::string_view>;
  const auto context = ReadTraceContext(Values{kGood},
                                        Values{"a=1", "b=2"});
  ASSERT_TRUE(context.has_value());
  EXPECT_EQ(context->trace_state, "a=1,b=2");
  EXPECT_TRUE(ReadTraceContext(Values{"\t00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00 "},
                               Values{})
                  .has_value());
  EXPECT_EQ(ReadTraceContext(Values{kGood}, Values{"a=1", "A=2"})->trace_state, "")
      << "a wrong state is dropped alone";
  EXPECT_FALSE(ReadTraceContext(Values{kGood, kGood}, Values{}).has_value());
  EXPECT_FALSE(ReadTraceContext(Values{}, Values{"a=1"}).has_value());
  EXPECT_FALSE(ReadTraceContext(Values{"nonsense"}, Values{"a=1"}).has_value());
}

}  // namespace
}  // namespace sheaf
