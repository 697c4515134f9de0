// A step's batch comes through its bytes as it was, and bytes that are none are refused by what is
// wrong.
#include "router/attention/step_plan.h"

#include <algorithm>
#include <cstring>
#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/text/random_seed.h"

namespace sheaf {
namespace {

using ::testing::HasSubstr;

constexpr ReceivedStepPlan::Bounds kBounds{
    .block_size = 16, .num_blocks = 100, .max_positions = 1000};

std::vector<uint8_t> BytesOf(const std::vector<int32_t>& words) {
  std::vector<uint8_t> bytes(words.size() * sizeof(int32_t));
  if (!words.empty()) std::memcpy(bytes.data(), words.data(), bytes.size());
  return bytes;
}

std::string ErrorOf(const std::vector<int32_t>& words) {
  const auto plan = ReceivedStepPlan::Decode(BytesOf(words), kBounds);
  EXPECT_EQ(plan.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(plan.status().message());
}

TEST(StepPlan, ComesThroughAsItWas) {
  const uint64_t seed = testing::RandomSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  for (int round = 0; round < 200; ++round) {
    std::vector<std::vector<TokenId>> tokens(random() % 6);
    std::vector<std::vector<int32_t>> tables(tokens.size());
    std::vector<StepSequence> sequences;
    for (size_t i = 0; i < tokens.size(); ++i) {
      tokens[i].resize(1 + random() % 50);
      for (TokenId& token : tokens[i]) token = static_cast<TokenId>(random() % 150'000);
      const int first = static_cast<int>(random() % 900);
      // some are not needed yet
      tables[i].resize((first + tokens[i].size() + 15) / 16 + random() % 3);
      for (int32_t& block : tables[i]) block = static_cast<int32_t>(random() % 100);
      sequences.push_back(
          {tokens[i], first, tables[i], static_cast<int>(random() % (tokens[i].size() + 1))});
    }
    const auto plan = ReceivedStepPlan::Decode(EncodeStepPlan(sequences, 16), kBounds);
    ASSERT_TRUE(plan.ok()) << plan.status();
    ASSERT_EQ(plan->sequences().size(), sequences.size());
    for (size_t i = 0; i < sequences.size(); ++i) {
      const StepSequence& got = plan->sequences()[i];
      EXPECT_TRUE(std::ranges::equal(got.tokens, sequences[i].tokens));
      EXPECT_EQ(got.first_position, sequences[i].first_position);
      EXPECT_EQ(got.first_logit_token, sequences[i].first_logit_token);
      const size_t needed = (got.first_position + got.tokens.size() + 15) / 16;
      EXPECT_TRUE(std::ranges::equal(got.block_table, sequences[i].block_table.first(needed)));
    }
  }
}

TEST(StepPlan, NonsenseIsRefusedByWhatIsWrong) {
  EXPECT_THAT(ErrorOf({}), HasSubstr("whole words, got 0 bytes"));
  EXPECT_THAT(ErrorOf({-1}), HasSubstr("-1 sequences"));
  EXPECT_THAT(ErrorOf({1 << 30}), HasSubstr("sequences in 0 words"));
  EXPECT_THAT(ErrorOf({1, 1, 0, 0}), HasSubstr("1 sequences in 3 words"));
  EXPECT_THAT(ErrorOf({1, 0, 0, 0, 0}), HasSubstr("tokens: wanted 1, got 0"));
  EXPECT_THAT(ErrorOf({1, 1, -1, 0, 1, 5, 3}), HasSubstr("first position"));
  EXPECT_THAT(ErrorOf({1, 1, 0, 2, 1, 5, 3}), HasSubstr("first logit token"));
  EXPECT_THAT(ErrorOf({1, 1, 0, 0, 2, 5, 3, 3}), HasSubstr("blocks: wanted 1, got 2"));
  EXPECT_THAT(ErrorOf({1, 1, 0, 0, 1, 5, 100}), HasSubstr("blocks below: wanted 100, got 100"));
  EXPECT_THAT(ErrorOf({1, 1, 0, 0, 1, 5, -1}), HasSubstr("got -1"));
  EXPECT_THAT(ErrorOf({1, 2, 0, 0, 1, 5}), HasSubstr("words: wanted 3, got 1"));
  EXPECT_THAT(ErrorOf({1, 1, 1000, 0, 63, 5}), HasSubstr("positions up to: wanted 1000, got 1001"));
  EXPECT_THAT(ErrorOf({1, 0x7fffffff, 0x7fffffff, 0, 1}), HasSubstr("positions up to"));
  EXPECT_THAT(ErrorOf({1, 1, 0, 0, 1, 5, 3, 9}), HasSubstr("1 words too many"));
  EXPECT_FALSE(ReceivedStepPlan::Decode(std::vector<uint8_t>(7), kBounds).ok());
}

}  // namespace
}  // namespace sheaf
