#include "router/text/output/json_text.h"

#include <random>
#include <string>
#include <string_view>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/text/output/complete_json.h"
#include "tests/text/random_seed.h"

namespace sheaf {
namespace {

TEST(JsonTextTest, TellsJsonFromOtherText) {
  for (const char* text : {"{}",
                           "[]",
                           " [ ] ",
                           "{\"a\":1}",
                           "{ \"a\" : [ 1 , {} ] , \"b\" : null }",
                           "1",
                           "-0",
                           "0.5",
                           "1e5",
                           "-1.25E-7",
                           "123456789012345678901234567890",
                           "1e999",
                           "\"\"",
                           "\"a\\\"\\u00e9\\n\"",
                           "\"\\ud83d\\ude00\"",
                           "\"é\"",
                           "true",
                           "false",
                           "null",
                           "\t\r\n1\n",
                           "[[],[[]]]"}) {
    EXPECT_TRUE(IsJson(text)) << text;
  }
  for (const char* text : {"",
                           " ",
                           "{",
                           "}",
                           "[1,]",
                           "{\"a\":1,}",
                           "{\"a\"}",
                           "{a:1}",
                           "{1:1}",
                           "[1 2]",
                           "1 2",
                           "01",
                           "+1",
                           "-",
                           ".5",
                           "5.",
                           "1e",
                           "1e+",
                           "0x1",
                           "NaN",
                           "Infinity",
                           "True",
                           "nul",
                           "nulll",
                           "'a'",
                           "\"",
                           "\"a",
                           "\"\\",
                           "\"\\x\"",
                           "\"\\u12",
                           "\"\\u12g4\"",
                           "\"\\ud800\"",
                           "\"\\udc00\"",
                           "\"\\ud800\\n\"",
                           "\"\\ud800\\u0041\"",
                           "\"\n\"",
                           "[}",
                           "{]",
                           "[1]]",
                           "{\"a\":1]",
                           "{\"a\":}",
                           ",",
                           "[,1]",
                           "\v1",
                           "{,}",
                           "{\"a\",1}",
                           "[1:2]"}) {
    EXPECT_FALSE(IsJson(text)) << text;
  }
}

TEST(JsonTextTest, DepthIsBounded) {
  const auto nested = [](int depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_TRUE(IsJson(nested(kMaxJsonDepth)));
  EXPECT_FALSE(IsJson(nested(kMaxJsonDepth + 1)));
  EXPECT_FALSE(IsJson(std::string(10'000'000, '[')));
}

TEST(JsonTextTest, NumbersOfAnySize) {
  const std::string digits(5000, '7');
  EXPECT_TRUE(IsJsonInteger(digits));
  EXPECT_TRUE(IsJsonInteger("-" + digits));
  EXPECT_TRUE(IsJsonNumber(digits + "." + digits + "e-" + digits));
  EXPECT_FALSE(IsJsonInteger("1.0"));
  EXPECT_FALSE(IsJsonInteger("1e0"));
  EXPECT_FALSE(IsJsonInteger(" 1"));
  EXPECT_FALSE(IsJsonNumber("1 "));
  EXPECT_FALSE(IsJsonNumber(""));
}

// Texts that are nearly JSON, compared with a complete parser.
TEST(JsonTextTest, AgreesWithACompleteParser) {
  const uint64_t seed = testing::RandomSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  constexpr std::string_view kPieces[] = {
      "{",  "}",  "[",   "]",       ",",  ":",     "\"a\"",   "\"\"",    "1",    "0",
      "-",  ".5", "e3",  " ",       "\n", "true",  "[]",      "false",   "null", "{}",
      "\\", "\"", "\\n", "\\ud83d", "é",  "\\u0a", "\\udc00", "\"x\":1", "\x01", "+", {"\0", 1}};
  int num_valid = 0;
  for (int round = 0; round < 200'000; ++round) {
    std::string text;
    for (int n = static_cast<int>(random() % 7); n >= 0; --n) {
      text += kPieces[random() % std::size(kPieces)];
    }
    const bool valid = testing::IsCompleteJson(text);
    num_valid += valid;
    ASSERT_EQ(IsJson(text), valid) << text;
  }
  EXPECT_GT(num_valid, 1000);
}

std::string Written(std::string_view text, size_t piece_bytes) {
  JsonStringWriter writer;
  std::string json = "\"";
  for (; !text.empty(); text.remove_prefix(std::min(piece_bytes, text.size()))) {
    writer.Append(text.substr(0, piece_bytes), json);
  }
  writer.Finish(json);
  return json + "\"";
}

TEST(JsonTextTest, StringsAreEscapedWhereverTheyAreCut) {
  const std::string text = std::string("a\"b\\c/\b\f\n\r\t\x01\x1F\x7F") + '\0' +
                           "é\u0084\u0085\u0086\u2027\u2028\u2029\u202A😀\u20ACz";
  const std::string want = R"("a\"b\\c/\b\f\n\r\t\u0001\u001f)"
                           "\x7F"
                           R"(\u0000é)"
                           "\u0084"
                           R"(\u0085)"
                           "\u0086\u2027"
                           R"(\u2028\u2029)"
                           "\u202A😀\u20ACz\"";
  for (size_t piece_bytes = 1; piece_bytes <= text.size(); ++piece_bytes) {
    EXPECT_EQ(Written(text, piece_bytes), want) << piece_bytes;
  }
  EXPECT_EQ(nlohmann::json::parse(want).get<std::string>(), text);
}

}  // namespace
}  // namespace sheaf
