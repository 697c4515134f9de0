// Holdings survive the wire, and nothing but the whole shape of this model is taken for them.

#include "exchange/wire/holdings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/exchange/test_seed.h"

namespace sheaf {
namespace {

using testing::HasSubstr;

std::span<const uint8_t> Bytes(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

TEST(Holdings, AddRemoveList) {
  Holdings holdings(3, 70);
  EXPECT_EQ(holdings.count(), 0);
  holdings.Add(LayerId(2), ExpertId(69));
  holdings.Add(LayerId(0), ExpertId(1));
  holdings.Add(LayerId(1), ExpertId(0));
  holdings.Add(LayerId(1), ExpertId(0));
  EXPECT_EQ(holdings.count(), 3);
  EXPECT_THAT(holdings.List(), testing::ElementsAre(LayerExpert{LayerId(0), ExpertId(1)},
                                                    LayerExpert{LayerId(1), ExpertId(0)},
                                                    LayerExpert{LayerId(2), ExpertId(69)}));
  holdings.Remove(LayerId(1), ExpertId(0));
  EXPECT_FALSE(holdings.Has(LayerId(1), ExpertId(0)));
  EXPECT_TRUE(holdings.Has(LayerId(2), ExpertId(69)));
  // Outside the model nothing is held.
  EXPECT_FALSE(holdings.Has(LayerId(3), ExpertId(0)));
  EXPECT_FALSE(holdings.Has(LayerId(-1), ExpertId(0)));
  EXPECT_FALSE(holdings.Has(LayerId(0), ExpertId(70)));
  holdings.Remove(LayerId(7), ExpertId(-2));
  EXPECT_EQ(holdings.count(), 2);
}

TEST(Holdings, BytesAreThoseOfTheDocument) {
  Holdings holdings(2, 5);
  holdings.number = 0x0203;
  holdings.Add(LayerId(0), ExpertId(0));
  holdings.Add(LayerId(0), ExpertId(4));
  holdings.Add(LayerId(1), ExpertId(4));
  const uint8_t wanted[] = {3, 2, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0, 0b10001, 0b10};
  const std::string encoded = holdings.Encode();
  EXPECT_THAT(Bytes(encoded), testing::ElementsAreArray(wanted));
}

TEST(Holdings, RoundTrip) {
  const uint64_t seed = TestSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  for (const auto& [layers, experts] :
       {std::pair{92, 120}, {1, 1}, {8, 8}, {3, 64}, {78, 192}, {0, 0}}) {
    Holdings holdings(layers, experts);
    holdings.number = random();
    for (int i = 0; i < layers * experts / 2; ++i) {
      holdings.Add(LayerId(static_cast<int32_t>(random() % uint64_t(layers))),
                   ExpertId(static_cast<int32_t>(random() % uint64_t(experts))));
    }
    const std::string bytes = holdings.Encode();
    const auto decoded = Holdings::Decode(Bytes(bytes), layers, experts);
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    EXPECT_EQ(*decoded, holdings);
  }
  EXPECT_EQ(Holdings(92, 120).Encode().size(), 16u + 1380);
}

TEST(Holdings, OtherShapesAndStrayBitsAreRefused) {
  const std::string good = Holdings(3, 5).Encode();
  const auto message = [](std::string bytes, int layers, int experts) {
    const auto decoded = Holdings::Decode(Bytes(bytes), layers, experts);
    EXPECT_EQ(decoded.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(decoded.status().message());
  };
  EXPECT_THAT(message(good, 4, 5), HasSubstr("layers: wanted 4, got 3"));
  EXPECT_THAT(message(good, 3, 6), HasSubstr("experts a layer: wanted 6, got 5"));
  EXPECT_THAT(message(good + '\0', 3, 5), HasSubstr("bytes: wanted 18, got 19"));
  for (size_t bytes = 0; bytes < good.size(); ++bytes)
    EXPECT_THAT(message(good.substr(0, bytes), 3, 5), HasSubstr("bytes: wanted 18"));
  std::string stray = good;
  stray.back() = static_cast<char>(0x80);
  EXPECT_THAT(message(stray, 3, 5), HasSubstr("after the last expert"));
  std::string negative = good;
  negative[11] = static_cast<char>(0xff);
  EXPECT_THAT(message(negative, 3, 5), HasSubstr("layers"));
}

}  // namespace
}  // namespace sheaf
