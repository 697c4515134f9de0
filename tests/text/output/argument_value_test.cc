#include "router/text/output/argument_value.h"

#include <string>
#include <string_view>

#include "gtest/gtest.h"

namespace sheaf {
namespace {

constexpr JsonTypes kNull = JsonType::kNull;
constexpr JsonTypes kInteger = JsonType::kInteger;
constexpr JsonTypes kNumber = JsonTypes(JsonType::kNumber) | JsonType::kInteger;
constexpr JsonTypes kBoolean = JsonType::kBoolean;
constexpr JsonTypes kObject = JsonType::kObject;
constexpr JsonTypes kArray = JsonType::kArray;
constexpr JsonTypes kString = JsonType::kString;

TEST(ArgumentValueTest, TheFirstTypeThatFitsWins) {
  struct Case {
    const char* raw;
    JsonTypes types;
    const char* want;
  };
  for (const Case& c : std::initializer_list<Case>{
           {"null", kNull | kString, "null"},
           {" None\n", kNull | kString, "null"},
           {"null", kString, R"("null")"},
           {"NULL", kNull | kString, R"("NULL")"},
           {"5", kInteger | kString, "5"},
           {" 5 ", kInteger, "5"},
           {"5", kString, R"("5")"},
           {"05", kInteger | kString, R"("05")"},
           {"05", kInteger, R"("05")"},
           {"5.0", kInteger, "5.0"},
           {"5.0", kInteger | kString, R"("5.0")"},
           {"5.50", kNumber, "5.50"},
           {"1e3", kNumber, "1e3"},
           {"1e3", kNumber | kString, "1e3"},
           {"123456789012345678901234567890", kInteger, "123456789012345678901234567890"},
           {"0.1000000000000000055511151231257827", kNumber,
            "0.1000000000000000055511151231257827"},
           {"true", kBoolean, "true"},
           {"True", kBoolean | kString, "true"},
           {"False\n", kBoolean, "false"},
           {"yes", kBoolean, R"("yes")"},
           {"true", kString, R"("true")"},
           {"true", kInteger, "true"},
           {R"({"a": [1, 2.50]})", kObject, R"({"a": [1, 2.50]})"},
           {"\n{\"a\": 1}\n", kObject, R"({"a": 1})"},
           {"{'a': 1}", kObject, R"("{'a': 1}")"},
           {"{'a': 1}", kObject | kString, R"("{'a': 1}")"},
           {R"({"a": 1})", kString, R"("{\"a\": 1}")"},
           {R"({"a": 1})", kArray, R"({"a": 1})"},
           {R"({"a": 1})", kArray | kString, R"("{\"a\": 1}")"},
           {R"(["x", "y"])", kArray, R"(["x", "y"])"},
           {R"(["x", "y"])", kArray | kNull, R"(["x", "y"])"},
           {R"(["x", "y")", kArray, R"("[\"x\", \"y\"")"},
           {"", kInteger, R"("")"},
           {"", kString, R"("")"},
           {"  keep \n", kString, R"("  keep \n")"},
           {"  keep \n", kInteger, R"("  keep \n")"},
           {"  keep \n", kString | kNull, R"("  keep \n")"},
           {"Berlin", kInteger, R"("Berlin")"},
           {"[1]", JsonTypes::All(), "[1]"},
           {"1", JsonTypes::All(), "1"},
           {"x", JsonTypes::All(), R"("x")"},
           {"null", JsonTypes::All(), "null"}}) {
    EXPECT_EQ(ArgumentJson(c.raw, c.types), c.want) << c.raw;
    // The same in pieces of one byte.
    ArgumentValue value;
    std::string json;
    value.Begin(c.types, json);
    for (const char* at = c.raw; *at != 0; ++at) value.Push(std::string_view(at, 1), json);
    value.Finish(json);
    EXPECT_EQ(json, c.want) << c.raw;
  }
}

// What has come out after each byte.
std::string Progress(JsonTypes types, std::string_view raw) {
  ArgumentValue value;
  std::string json;
  value.Begin(types, json);
  std::string progress = json;
  for (const char c : raw) {
    json.clear();
    value.Push(std::string_view(&c, 1), json);
    progress += "|" + json;
  }
  json.clear();
  value.Finish(json);
  return progress + "|" + json;
}

TEST(ArgumentValueTest, AStringComesOutWhileItIsWritten) {
  EXPECT_EQ(Progress(kString, "a\"\n"), R"("|a|\"|\n|")");
}

TEST(ArgumentValueTest, AStringThatMayBeNullWaitsOnlyAsLongAsItMayBe) {
  EXPECT_EQ(Progress(kString | kNull, "nuts"), R"(|||"nut|s|")");
  EXPECT_EQ(Progress(kString | kNull, "abc"), R"(|"a|b|c|")");
  EXPECT_EQ(Progress(kString | kNull, " null "), "|||||||null");
  EXPECT_EQ(Progress(kString | kNull, "null!"), R"(|||||"null!|")");
  EXPECT_EQ(Progress(kString | kNull, "n n"), R"(||"n |n|")");
  EXPECT_EQ(Progress(kString | kNull, ""), R"(|"")");
}

TEST(ArgumentValueTest, OtherTypesComeWhenTheyAreComplete) {
  EXPECT_EQ(Progress(kInteger, "12"), "|||12");
  EXPECT_EQ(Progress(kInteger | kString, "ab"), R"(|||"ab")");
}

}  // namespace
}  // namespace sheaf
