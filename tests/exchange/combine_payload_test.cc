// A combine's vectors arrive as they were sent: float32 bit for bit, int16 groups as one rounding
// that depends on the vector alone.

#include "exchange/wire/combine_payload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "base/byte_buffer.h"
#include "tests/exchange/test_seed.h"

namespace sheaf {
namespace {

using testing::HasSubstr;

FrameHeader CombineHeader(FrameElement element, uint32_t pairs, uint32_t hidden) {
  FrameHeader header;
  header.kind = FrameKind::kDispatch;
  header.sequence = 1;
  header.pairs = pairs;
  header.hidden = hidden;
  header.answer = element;
  return CombineHeaderFor(header);
}

std::vector<float> RandomFloats(std::mt19937_64& random, size_t count) {
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

TEST(CombinePayload, Float32RowsAreReadWhereTheyLie) {
  std::mt19937_64 random(TestSeed());
  const std::vector<float> sent = RandomFloats(random, 3 * 200);
  const auto* bytes = reinterpret_cast<const uint8_t*>(sent.data());
  const auto view = CombineView::Decode(CombineHeader(FrameElement::kFloat32, 3, 200),
                                        {bytes, sent.size() * sizeof(float)});
  ASSERT_TRUE(view.ok()) << view.status();
  EXPECT_TRUE(view->is_float32());
  for (size_t pair = 0; pair < 3; ++pair) {
    EXPECT_EQ(view->Row(pair), sent.data() + 200 * pair);
    std::vector<float> out(200);
    view->Expand(pair, out.data());
    EXPECT_EQ(0, std::memcmp(out.data(), sent.data() + 200 * pair, 800));
  }
}

TEST(CombinePayload, Int16RowsAreThoseOfOneRounding) {
  const uint64_t seed = TestSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  ThreadPool pool(2);
  for (const size_t hidden : {128u, 200u, 5120u}) {
    for (const size_t pairs : {1u, 3u, 70u}) {
      const std::vector<float> sent = RandomFloats(random, pairs * hidden);
      ByteBuffer payload;
      payload.Resize(CombineBytes(FrameElement::kInt16Groups, pairs, hidden));
      EncodeInt16Combine(pool, sent.data(), pairs, hidden, payload.data());
      const auto view =
          CombineView::Decode(CombineHeader(FrameElement::kInt16Groups, uint32_t(pairs),
                                            uint32_t(hidden)),
                              payload.bytes());
      ASSERT_TRUE(view.ok()) << view.status();
      EXPECT_FALSE(view->is_float32());
      for (size_t pair = 0; pair < pairs; ++pair) {
        std::vector<float> out(hidden), alone(sent.begin() + ptrdiff_t(pair * hidden),
                                              sent.begin() + ptrdiff_t((pair + 1) * hidden));
        const std::vector<float> before = alone;
        view->Expand(pair, out.data());
        RoundToInt16Groups(alone.data(), hidden);
        ASSERT_EQ(out, alone) << "pair " << pair << " of " << pairs;
        for (size_t i = 0; i < hidden; ++i)
          ASSERT_NEAR(out[i], before[i], 20.0f / 32512) << i;
      }
    }
  }
}

TEST(CombinePayload, HalfTheBytes) {
  EXPECT_EQ(CombineBytes(FrameElement::kFloat32, 8, 5120), 163'840u);
  EXPECT_EQ(CombineBytes(FrameElement::kInt16Groups, 8, 5120), 83'200u);
}

TEST(CombinePayload, SizesThatDisagreeAreRefused) {
  std::vector<float> memory(1000);
  const std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(memory.data()), 4000);
  const auto message = [](const FrameHeader& header, std::span<const uint8_t> payload) {
    const auto view = CombineView::Decode(header, payload);
    EXPECT_EQ(view.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(view.status().message());
  };
  FrameHeader header = CombineHeader(FrameElement::kFloat32, 2, 128);
  EXPECT_THAT(message(header, bytes.first(1023)), HasSubstr("wanted 1024, got 1023"));
  EXPECT_THAT(message(header, bytes.first(1028)), HasSubstr("wanted 1024, got 1028"));
  EXPECT_THAT(message(header, bytes.subspan(1, 1024)), HasSubstr("aligned"));
  header.pairs = 3;
  EXPECT_THAT(message(header, bytes.first(1024)), HasSubstr("payload_bytes: wanted 1536"));
  header = CombineHeader(FrameElement::kInt16Groups, 2, 129);
  EXPECT_EQ(header.payload_bytes, 2u * 2 * 260);
  EXPECT_THAT(message(header, bytes.first(520)), HasSubstr("wanted 1040"));
  header.element = FrameElement::kText;
  EXPECT_THAT(message(header, bytes.first(520)), HasSubstr("element"));
  header.kind = FrameKind::kDispatch;
  EXPECT_THAT(message(header, bytes.first(520)), HasSubstr("not a combine"));
  header = CombineHeader(FrameElement::kFloat32, kMaxFramePairs, kMaxFrameHidden);
  header.pairs += 1;
  EXPECT_THAT(message(header, bytes), HasSubstr("pairs"));
}

}  // namespace
}  // namespace sheaf
