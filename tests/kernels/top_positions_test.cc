#include "kernels/attention/top_positions.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "tests/kernels/every_target.h"

namespace sheaf::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<int32_t> Top(const std::vector<float>& scores, int count) {
  std::vector<int32_t> positions(count + 1, -7);
  TopPositions(scores.data(), static_cast<int>(scores.size()), count, positions.data());
  EXPECT_EQ(positions[count], -7) << "nothing is written behind the end";
  positions.pop_back();
  return positions;
}

// The definition: a stable sort by descending score, NaN last.
std::vector<int32_t> Sorted(const std::vector<float>& scores, int count) {
  std::vector<int32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    if (std::isnan(scores[b])) return !std::isnan(scores[a]);
    return scores[a] > scores[b];
  });
  order.resize(count);
  std::sort(order.begin(), order.end());
  return order;
}

TEST(TopPositions, HandChosen) {
  const std::vector<float> scores = {1, 5, -2, 5, 0, 3};
  EXPECT_EQ(Top(scores, 0), (std::vector<int32_t>{}));
  EXPECT_EQ(Top(scores, 1), (std::vector<int32_t>{1})) << "the lowest of equals";
  EXPECT_EQ(Top(scores, 2), (std::vector<int32_t>{1, 3}));
  EXPECT_EQ(Top(scores, 3), (std::vector<int32_t>{1, 3, 5}));
  EXPECT_EQ(Top(scores, 5), (std::vector<int32_t>{0, 1, 3, 4, 5}));
  EXPECT_EQ(Top(scores, 6), (std::vector<int32_t>{0, 1, 2, 3, 4, 5}));
}

TEST(TopPositions, ZerosAreEqualAndNaNIsBelowEverything) {
  EXPECT_EQ(Top({-1, -0.0f, 0.0f, -0.0f}, 2), (std::vector<int32_t>{1, 2}));
  EXPECT_EQ(Top({-1, 0.0f, -0.0f, 0.0f}, 2), (std::vector<int32_t>{1, 2}));
  EXPECT_EQ(Top({NAN, -kInfinity, -NAN, 4}, 2), (std::vector<int32_t>{1, 3}));
  EXPECT_EQ(Top({NAN, -kInfinity, -NAN, 4}, 3), (std::vector<int32_t>{0, 1, 3}));
  EXPECT_EQ(Top({1, kInfinity, std::numeric_limits<float>::max()}, 1), (std::vector<int32_t>{1}));
  EXPECT_EQ(Top({-1e-45f, 1e-45f, 0}, 2), (std::vector<int32_t>{1, 2}));
}

TEST(TopPositions, AgreesWithAStableSort) {
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(testing::SeedMessage(seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 60; ++round) {
    const int n = 1 + static_cast<int>(random() % (round < 50 ? 3000 : 70000));
    std::vector<float> scores = testing::RandomNormals(random, n);
    switch (round % 5) {
      case 0:
        break;
      case 1:  // many ties
        for (float& score : scores) score = std::round(score * 2);
        break;
      case 2:  // what a ReLU leaves
        for (float& score : scores) score = std::max(score, 0.0f);
        break;
      case 3:  // any bits
        for (float& score : scores) score = std::bit_cast<float>(static_cast<uint32_t>(random()));
        break;
      case 4:  // equal in all but the last bits
        for (float& score : scores) {
          score = std::bit_cast<float>(0x3F800000u + static_cast<uint32_t>(random() % 40));
        }
        break;
    }
    for (const int count : {1, n / 2, n - 1, n, static_cast<int>(random() % n)}) {
      ASSERT_EQ(Top(scores, count), Sorted(scores, count)) << "round " << round << ", n " << n;
    }
  }
}

TEST(TopPositions, AMillionScores) {
  const uint64_t seed = testing::FreshSeed();
  SCOPED_TRACE(testing::SeedMessage(seed));
  std::mt19937_64 random(seed);
  const std::vector<float> scores = testing::RandomNormals(random, 1 << 20);
  EXPECT_EQ(Top(scores, 2048), Sorted(scores, 2048));
  EXPECT_EQ(Top(std::vector<float>(1 << 20, 1.0f), 3), (std::vector<int32_t>{0, 1, 2}));
}

}  // namespace
}  // namespace sheaf::kernels
