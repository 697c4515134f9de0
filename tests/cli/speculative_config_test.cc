#include "cli/options/speculative_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace sheaf {
namespace {

using ::testing::HasSubstr;

TEST(SpeculativeConfigTest, ReadsWhatVllmReads) {
  const auto full = ParseSpeculativeConfig(
      R"({"method": "ngram", "num_speculative_tokens": 5, "prompt_lookup_max": 6, "prompt_lookup_min": 3})");
  ASSERT_TRUE(full.ok()) << full.status();
  EXPECT_EQ(full->longest_draft, 5);
  EXPECT_EQ(full->ngram.min_match, 3);
  EXPECT_EQ(full->ngram.max_match, 6);
  const auto short_one = ParseSpeculativeConfig(R"({"num_speculative_tokens": 1})");
  ASSERT_TRUE(short_one.ok());
  EXPECT_EQ(short_one->longest_draft, 1);
  EXPECT_EQ(short_one->ngram.min_match, 2);
  EXPECT_EQ(short_one->ngram.max_match, 4);
  const auto alone =
      ParseSpeculativeConfig(R"({"num_speculative_tokens": 2, "prompt_lookup_max": 1})");
  ASSERT_TRUE(alone.ok()) << alone.status();
  EXPECT_EQ(alone->ngram.min_match, 1);
  EXPECT_EQ(ParseSpeculativeConfig("")->longest_draft, 0);
}

TEST(SpeculativeConfigTest, NamesWhatIsWrong) {
  const std::pair<const char*, const char*> cases[] = {
      {"[]", "JSON object"},
      {"{", "JSON object"},
      {"{}", "num_speculative_tokens: is required"},
      {R"({"num_speculative_tokens": 17})", "wanted an integer in 1..16, got 17"},
      {R"({"num_speculative_tokens": 2.5})", "got 2.5"},
      {R"({"num_speculative_tokens": 2, "method": "eagle"})", "wanted \"ngram\", got \"eagle\""},
      {R"({"num_speculative_tokens": 2, "model": "x"})", "got \"model\""},
      {R"({"num_speculative_tokens": 2, "prompt_lookup_min": 5, "prompt_lookup_max": 4})",
       "prompt_lookup_max = 4, got 5"}};
  for (const auto& [text, wanted] : cases) {
    const absl::Status status = ParseSpeculativeConfig(text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr(wanted));
    EXPECT_THAT(std::string(status.message()), HasSubstr("--speculative-config"));
  }
}

}  // namespace
}  // namespace sheaf
