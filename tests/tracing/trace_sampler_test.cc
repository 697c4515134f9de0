// Who began a trace decides; otherwise its id does, alike in every process.
#include "tracing/trace_sampler.h"

#include <random>

#include "gtest/gtest.h"

namespace sheaf {
namespace {

TraceId IdOf(uint64_t low) {
  TraceId id{};
  id[0] = 1;
  for (size_t i = 0; i < 8; ++i) id[15 - i] = static_cast<uint8_t>(low >> (8 * i));
  return id;
}

TEST(TraceSamplerTest, NoneAndAll) {
  const TraceSampler none(0), all(1);
  for (const uint64_t low : {uint64_t{0}, uint64_t{1} << 55, ~uint64_t{0}}) {
    EXPECT_FALSE(none.Keeps(IdOf(low)));
    EXPECT_TRUE(all.Keeps(IdOf(low)));
  }
}

TEST(TraceSamplerTest, TheLast56BitsDecide) {
  const TraceSampler half(0.5);
  EXPECT_TRUE(half.Keeps(IdOf(uint64_t{1} << 55)));
  EXPECT_FALSE(half.Keeps(IdOf((uint64_t{1} << 55) - 1)));
  EXPECT_FALSE(half.Keeps(IdOf(uint64_t{0xff} << 56))) << "bits before them";
}

TEST(TraceSamplerTest, ALargerRatioKeepsWhatASmallerKeeps) {
  const TraceSampler small(0.01), large(0.25);
  std::mt19937_64 random(7);
  int kept_small = 0, kept_large = 0;
  for (int i = 0; i < 20000; ++i) {
    const TraceId id = IdOf(random());
    kept_small += small.Keeps(id);
    kept_large += large.Keeps(id);
    EXPECT_TRUE(!small.Keeps(id) || large.Keeps(id));
  }
  EXPECT_NEAR(kept_small, 200, 60);
  EXPECT_NEAR(kept_large, 5000, 300);
}

TEST(TraceSamplerTest, AParentDecides) {
  TraceContext kept, dropped;
  kept.flags = TraceContext::kSampled;
  dropped.flags = TraceContext::kRandom;
  EXPECT_TRUE(TraceSampler(0).Keeps(&kept, IdOf(0)));
  EXPECT_FALSE(TraceSampler(1).Keeps(&dropped, IdOf(~uint64_t{0})));
  EXPECT_TRUE(TraceSampler(1).Keeps(nullptr, IdOf(0)));
}

}  // namespace
}  // namespace sheaf
