#include "router/ui/expert_map.h"

#include <gtest/gtest.h>

#include "absl/strings/escaping.h"
#include "nlohmann/json.hpp"

namespace sheaf {
namespace {

using Parsed = nlohmann::json;

std::string Bytes(const Parsed& base64) {
  std::string bytes;
  EXPECT_TRUE(absl::Base64Unescape(base64.get<std::string>(), &bytes));
  return bytes;
}

TEST(ExpertMap, BitsGoLayerByLayerLowestFirst) {
  ExpertMap map;
  map.version = 7;
  map.first_layer = 1;
  map.layers = 2;
  map.experts = 5;
  // The first and last expert of the first layer, the first one of the second: bits 0, 4 and 5.
  map.holders.push_back({3, {true, false, false, false, true, true, false, false, false, false}});
  // The last one of all: bit 9, in the second byte.
  map.holders.push_back({4, std::vector<bool>(10)});
  map.holders[1].held[9] = true;
  const Parsed json = Parsed::parse(map.ToJson());
  EXPECT_EQ(json["version"], 7);
  EXPECT_EQ(json["first_layer"], 1);
  EXPECT_EQ(json["layers"], 2);
  EXPECT_EQ(json["experts"], 5);
  ASSERT_EQ(json["workers"].size(), 2u);
  EXPECT_EQ(json["workers"][0]["id"], 3);
  EXPECT_EQ(Bytes(json["workers"][0]["held"]), std::string("\x31\x00", 2));
  EXPECT_EQ(Bytes(json["workers"][1]["held"]), std::string("\x00\x02", 2));
  EXPECT_EQ(json["load"], "") << "not measured";
  EXPECT_EQ(json["load_peak_over_mean"], 0);
}

TEST(ExpertMap, LoadIsRelativeToTheHottest) {
  ExpertMap map;
  map.layers = 1;
  map.experts = 4;
  map.load = {0, 1e-9, 50, 100};
  const Parsed json = Parsed::parse(map.ToJson());
  EXPECT_EQ(Bytes(json["load"]), std::string("\x00\x01\x80\xff", 4)) << "asked for at all: not 0";
  EXPECT_NEAR(json["load_peak_over_mean"].get<double>(), 100 / 37.5, 1e-6);
}

TEST(ExpertMap, NothingAskedForIsNoLoad) {
  ExpertMap map;
  map.layers = 1;
  map.experts = 2;
  map.load = {0, 0};
  const Parsed json = Parsed::parse(map.ToJson());
  EXPECT_EQ(json["load"], "");
  EXPECT_EQ(json["load_peak_over_mean"], 0);
}

}  // namespace
}  // namespace sheaf
