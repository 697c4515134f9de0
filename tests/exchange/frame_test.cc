// A frame header survives the wire exactly, and nothing malformed is believed.

#include "exchange/wire/frame.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/exchange/test_seed.h"

namespace sheaf {
namespace {

using testing::HasSubstr;

FrameHeader GoodDispatch() {
  FrameHeader header;
  header.kind = FrameKind::kDispatch;
  header.element = FrameElement::kInt16Groups;
  header.link = LinkId(0x0102030405060708);
  header.sequence = 17;
  header.step = StepId(12);
  header.layer = LayerId(7);
  header.model = 0xa1b2c3d4;
  header.hidden = 5120;
  header.tokens = 3;
  header.pairs = 8;
  header.experts = 5;
  header.answer = FrameElement::kInt16Groups;
  header.payload_bytes = 31'000;
  return header;
}

FrameHeader RandomHeader(std::mt19937_64& random) {
  FrameHeader header = GoodDispatch();
  header.answer = random() % 2 == 0 ? FrameElement::kFloat32 : FrameElement::kInt16Groups;
  header.element = random() % 2 == 0 ? FrameElement::kInt8Groups : FrameElement::kInt16Groups;
  header.link = LinkId(random());
  header.sequence = random() | 1;
  header.step = StepId(random());
  header.layer = LayerId(static_cast<int32_t>(random() % kMaxFrameLayer));
  header.model = static_cast<uint32_t>(random());
  header.hidden = static_cast<uint32_t>(random() % 8192);
  header.tokens = static_cast<uint32_t>(random() % kMaxFrameTokens);
  header.pairs = static_cast<uint32_t>(random() % 65536);
  header.experts = static_cast<uint32_t>(random() % kMaxFrameExperts);
  switch (random() % 8) {
    case 0:
      return CombineHeaderFor(header);
    case 1:
      return ErrorHeaderFor(header, random() % kMaxErrorTextBytes);
    case 2:
      return NotHeldHeaderFor(header, static_cast<uint32_t>(random() % kMaxFrameExperts));
    case 3: {
      FrameHeader holdings;
      holdings.kind = FrameKind::kHoldings;
      holdings.element = FrameElement::kBitmap;
      holdings.sequence = random();
      holdings.payload_bytes = random() % 4000;
      return holdings;
    }
    case 4: {
      FrameHeader seen;
      seen.kind = FrameKind::kHoldingsSeen;
      seen.sequence = random();
      return seen;
    }
    case 5: {
      FrameHeader part;
      part.kind = random() % 2 == 0 ? FrameKind::kStepPlan : FrameKind::kPart;
      part.sequence = random();
      part.step = StepId(random());
      part.layer = LayerId(static_cast<int32_t>(random() % 64));
      part.payload_bytes = random() % kMaxFramePayloadBytes;
      return part;
    }
    case 6: {
      FrameHeader over;
      over.kind = FrameKind::kStepOver;
      over.element = FrameElement::kText;
      over.step = StepId(random());
      over.payload_bytes = random() % kMaxErrorTextBytes;
      return over;
    }
    default:
      header.payload_bytes = random() % kMaxFramePayloadBytes;
      return header;
  }
}

TEST(FrameHeader, RoundTrip) {
  const uint64_t seed = TestSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  for (int i = 0; i < 5000; ++i) {
    const FrameHeader header = RandomHeader(random);
    const absl::StatusOr<FrameHeader> decoded = DecodeFrameHeader(EncodeFrameHeader(header));
    ASSERT_TRUE(decoded.ok()) << decoded.status() << " " << Describe(header);
    EXPECT_EQ(*decoded, header);
  }
}

TEST(FrameHeader, BytesAreThoseOfTheDocument) {
  const FrameHeaderBytes bytes = EncodeFrameHeader(GoodDispatch());
  const uint8_t wanted[kFrameHeaderBytes] = {
      'S',  'H',  'F',  '2',  2, 0, 1, 1,                       // magic, version, kind, element
      8,    7,    6,    5,    4, 3, 2, 1,                       // link
      17,   0,    0,    0,    0, 0, 0, 0,                       // sequence
      12,   0,    0,    0,    0, 0, 0, 0,                       // step
      7,    0,    0,    0,    0xd4, 0xc3, 0xb2, 0xa1,           // layer, model
      0,    0x14, 0,    0,    3, 0, 0, 0,                       // hidden, tokens
      8,    0,    0,    0,    5, 0, 1, 0,                       // pairs, experts, answer, zero
      0x18, 0x79, 0,    0,    0, 0, 0, 0};                      // payload_bytes
  EXPECT_THAT(bytes, testing::ElementsAreArray(wanted));
  EXPECT_EQ(Describe(GoodDispatch()), "dispatch 17 of step 12 layer 7");
}

TEST(FrameHeader, EveryFieldIsProved) {
  const FrameHeaderBytes good = EncodeFrameHeader(GoodDispatch());
  ASSERT_TRUE(DecodeFrameHeader(good).ok());
  const auto message_with = [&](size_t at, uint8_t value) {
    FrameHeaderBytes bytes = good;
    bytes[at] = value;
    const auto decoded = DecodeFrameHeader(bytes);
    EXPECT_NE(decoded.status().code(), absl::StatusCode::kOk) << at;
    return std::string(decoded.status().message());
  };
  EXPECT_THAT(message_with(0, 'X'), HasSubstr("magic"));
  EXPECT_THAT(message_with(3, '1'), HasSubstr("magic"));
  EXPECT_THAT(message_with(4, 1), HasSubstr("version: wanted 2, got 1"));
  EXPECT_THAT(message_with(5, 1), HasSubstr("version"));
  EXPECT_THAT(message_with(6, 0), HasSubstr("kind"));
  EXPECT_THAT(message_with(6, 10), HasSubstr("kind"));
  for (const uint8_t element : {0, 2, 3, 4, 5, 7, 255})
    EXPECT_THAT(message_with(7, element), HasSubstr("element"));
  EXPECT_THAT(message_with(16, 0), HasSubstr("sequence"));
  EXPECT_THAT(message_with(33, 0x20), HasSubstr("layer"));
  EXPECT_THAT(message_with(35, 0x80), HasSubstr("layer"));
  EXPECT_THAT(message_with(43, 1), HasSubstr("hidden"));
  EXPECT_THAT(message_with(47, 1), HasSubstr("tokens"));
  EXPECT_THAT(message_with(51, 1), HasSubstr("pairs"));
  EXPECT_THAT(message_with(53, 0x80), HasSubstr("experts"));
  for (const uint8_t answer : {0, 3, 4, 5, 255})
    EXPECT_THAT(message_with(54, answer), HasSubstr("answer"));
  EXPECT_THAT(message_with(55, 1), HasSubstr("reserved"));
  EXPECT_THAT(message_with(60, 5), HasSubstr("payload_bytes"));
  for (size_t bytes = 0; bytes < kFrameHeaderBytes; ++bytes)
    EXPECT_FALSE(DecodeFrameHeader(std::span<const uint8_t>(good).first(bytes)).ok());
}

// A flipped bit is refused or is seen in the field that it belongs to: no byte is looked over.
TEST(FrameHeader, NoBitIsIgnored) {
  std::mt19937_64 random(3);
  for (int i = 0; i < 200; ++i) {
    const FrameHeader header = RandomHeader(random);
    const FrameHeaderBytes good = EncodeFrameHeader(header);
    for (size_t bit = 0; bit < 8 * kFrameHeaderBytes; ++bit) {
      FrameHeaderBytes bytes = good;
      bytes[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
      const auto decoded = DecodeFrameHeader(bytes);
      if (!decoded.ok()) continue;
      EXPECT_NE(*decoded, header) << "bit " << bit;
      EXPECT_EQ(EncodeFrameHeader(*decoded), bytes) << "bit " << bit;
    }
  }
}

TEST(FrameHeader, AnswersHaveTheSizeThatTheirKindSays) {
  const auto off_by_one = [](FrameHeader header) {
    EXPECT_TRUE(DecodeFrameHeader(EncodeFrameHeader(header)).ok()) << Describe(header);
    header.payload_bytes += 1;
    const auto decoded = DecodeFrameHeader(EncodeFrameHeader(header));
    EXPECT_THAT(std::string(decoded.status().message()), HasSubstr("payload_bytes"));
  };
  FrameHeader dispatch = GoodDispatch();
  FrameHeader combine = CombineHeaderFor(dispatch);
  EXPECT_EQ(combine.element, FrameElement::kInt16Groups);
  EXPECT_EQ(combine.payload_bytes, 8u * 40 * (256 + 4));
  off_by_one(combine);
  dispatch.answer = FrameElement::kFloat32;
  combine = CombineHeaderFor(dispatch);
  EXPECT_EQ(combine.payload_bytes, 8u * 5120 * 4);
  EXPECT_EQ(combine.sequence, dispatch.sequence);
  off_by_one(combine);
  off_by_one(ErrorHeaderFor(dispatch, kMaxErrorTextBytes));
  const FrameHeader not_held = NotHeldHeaderFor(dispatch, 3);
  EXPECT_EQ(not_held.payload_bytes, 12u);
  off_by_one(not_held);
  FrameHeader seen;
  seen.kind = FrameKind::kHoldingsSeen;
  off_by_one(seen);
}

TEST(FrameHeader, SizesAtTheBoundsDoNotOverflow) {
  FrameHeader header = GoodDispatch();
  header.hidden = kMaxFrameHidden;
  header.pairs = kMaxFramePairs;
  header.answer = FrameElement::kFloat32;
  // 256 GiB: computed exactly, and more than a frame may have.
  const auto decoded = DecodeFrameHeader(EncodeFrameHeader(CombineHeaderFor(header)));
  EXPECT_THAT(std::string(decoded.status().message()), HasSubstr("payload_bytes"));
}

}  // namespace
}  // namespace sheaf
