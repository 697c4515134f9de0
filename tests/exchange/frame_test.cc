// A frame header survives the wire exactly, and nothing malformed is believed.

#include "exchange/frame.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/exchange/test_seed.h"

namespace sheaf {
namespace {

FrameHeader RandomHeader(std::mt19937_64& random) {
  FrameHeader header;
  header.kind = FrameKind::kCombine;
  header.type = FrameType::kFloat32;
  header.epoch = Epoch(random());
  header.step = StepId(random());
  header.layer = LayerId(static_cast<int32_t>(random() % 100));
  header.source = static_cast<int32_t>(random() % 31) - 1;
  header.chunk = static_cast<uint32_t>(random());
  header.hidden = static_cast<uint32_t>(random() % kMaxFrameHidden);
  header.tokens = static_cast<uint32_t>(random() % kMaxFrameTokens);
  header.pairs = static_cast<uint32_t>(random() % kMaxFramePairs);
  header.experts = static_cast<uint32_t>(random() % kMaxFrameExperts);
  header.payload_bytes = uint64_t{header.pairs} * header.hidden * 4;
  return header;
}

TEST(FrameHeader, RoundTrip) {
  const uint64_t seed = TestSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  for (int i = 0; i < 1000; ++i) {
    const FrameHeader header = RandomHeader(random);
    const absl::StatusOr<FrameHeader> decoded = DecodeFrameHeader(EncodeFrameHeader(header));
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    EXPECT_EQ(*decoded, header);
  }
}

TEST(FrameHeader, BytesAreThoseOfTheDocument) {
  FrameHeader header;
  header.kind = FrameKind::kError;
  header.type = FrameType::kText;
  header.epoch = Epoch(0x0102030405060708);
  header.source = -1;
  header.payload_bytes = 0x0a0b;
  const FrameHeaderBytes bytes = EncodeFrameHeader(header);
  EXPECT_EQ(std::string(bytes.begin(), bytes.begin() + 4), "SHF1");
  EXPECT_EQ(bytes[4], 1);
  EXPECT_EQ(bytes[6], 5);
  EXPECT_EQ(bytes[7], 3);
  EXPECT_EQ(bytes[8], 8);
  EXPECT_EQ(bytes[15], 1);
  EXPECT_EQ(bytes[28], 0xff);
  EXPECT_EQ(bytes[31], 0xff);
  EXPECT_EQ(bytes[56], 0x0b);
  EXPECT_EQ(bytes[57], 0x0a);
}

TEST(FrameHeader, RefusesWhatIsNotAFrame) {
  const FrameHeaderBytes good = EncodeFrameHeader(FrameHeader{});
  ASSERT_TRUE(DecodeFrameHeader(good).ok());
  const auto message_with = [&](size_t at, uint8_t value) {
    FrameHeaderBytes bytes = good;
    bytes[at] = value;
    return std::string(DecodeFrameHeader(bytes).status().message());
  };
  EXPECT_THAT(message_with(0, 'X'), testing::HasSubstr("magic"));
  EXPECT_THAT(message_with(4, 2), testing::HasSubstr("version: wanted 1, got 2"));
  EXPECT_THAT(message_with(6, 0), testing::HasSubstr("kind"));
  EXPECT_THAT(message_with(6, 6), testing::HasSubstr("kind"));
  EXPECT_THAT(message_with(7, 1), testing::HasSubstr("type"));
  EXPECT_THAT(message_with(27, 0x80), testing::HasSubstr("layer"));
  EXPECT_THAT(message_with(31, 0x80), testing::HasSubstr("source"));
  EXPECT_THAT(message_with(39, 1), testing::HasSubstr("hidden"));
  EXPECT_THAT(message_with(43, 1), testing::HasSubstr("tokens"));
  EXPECT_THAT(message_with(47, 1), testing::HasSubstr("pairs"));
  EXPECT_THAT(message_with(51, 1), testing::HasSubstr("experts"));
  EXPECT_THAT(message_with(52, 1), testing::HasSubstr("reserved"));
  EXPECT_THAT(message_with(56, 1), testing::HasSubstr("payload_bytes"));
  EXPECT_FALSE(DecodeFrameHeader(std::span<const uint8_t>(good).first(63)).ok());
  EXPECT_FALSE(DecodeFrameHeader({}).ok());
}

TEST(FrameHeader, CombineMustHaveTheSizeOfItsVectors) {
  FrameHeader header;
  header.kind = FrameKind::kCombine;
  header.type = FrameType::kFloat32;
  header.hidden = 5120;
  header.pairs = 8;
  header.payload_bytes = 8 * 5120 * 4 - 1;
  EXPECT_FALSE(DecodeFrameHeader(EncodeFrameHeader(header)).ok());
  header.payload_bytes += 1;
  EXPECT_TRUE(DecodeFrameHeader(EncodeFrameHeader(header)).ok());
}

}  // namespace
}  // namespace sheaf
