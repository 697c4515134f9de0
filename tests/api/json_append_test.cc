#include "router/api/openai/json_append.h"

#include <random>

#include "gtest/gtest.h"
#include "router/api/request/json/json_fields.h"
#include "tests/text/random_seed.h"

namespace sheaf {
namespace {

std::string Appended(std::string_view text) {
  std::string out = "before";
  AppendQuoted(text, out);
  return out.substr(6);
}

TEST(JsonAppend, StringsAreThoseOfJsonText) {
  const std::vector<std::string> texts = {
      "", "plain", "\n", "a\nb", "\"", "\\", "\t\r\b\f", std::string("\0x", 2), "\x7f", "\x1f",
      "\u00e4\u4f60", "\u2028\u2029", "\xff", "half \xc3", "\xe2\x80", "</script>"};
  for (const std::string& text : texts) EXPECT_EQ(Appended(text), JsonText(text));
  std::mt19937_64 random(testing::RandomSeed());
  for (int i = 0; i < 2000; ++i) {
    std::string text(random() % 8, '\0');
    for (char& c : text) c = static_cast<char>(random() % 4 == 0 ? random() : 'a' + random() % 26);
    ASSERT_EQ(Appended(text), JsonText(text));
  }
}

TEST(JsonAppend, NumbersAreThoseOfJsonText) {
  for (const int64_t value : {int64_t{0}, int64_t{-1}, INT64_MAX, INT64_MIN}) {
    std::string out;
    AppendJsonInteger(value, out);
    EXPECT_EQ(out, JsonText(value));
  }
  for (const double value : {0.0, -0.5, -9999.0, -1e-7, -12.345678955316544}) {
    std::string out;
    AppendJsonNumber(value, out);
    EXPECT_EQ(out, JsonText(value));
  }
  std::string out;
  AppendJsonIds(std::vector<TokenId>{}, out);
  AppendJsonIds(std::vector<TokenId>{1, 20, 300}, out);
  EXPECT_EQ(out, "[][1,20,300]");
}

}  // namespace
}  // namespace sheaf
