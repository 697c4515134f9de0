#include "base/one_line.h"

#include <gtest/gtest.h>

namespace sheaf {
namespace {

TEST(OneLine, ControlCharactersAreWritten) {
  EXPECT_EQ(OneLine("a\nb\tc\rd"), "a\\nb\\tc\\x0dd");
  EXPECT_EQ(OneLine(std::string("\0\x7f\x1b[0m", 6)), "\\x00\\x7f\\x1b[0m");
}

TEST(OneLine, EverythingElseStays) {
  const std::string text = "model.layers.3 \"g\xC3\xA9\" \\ \xFF";
  EXPECT_EQ(OneLine(text), text);
}

}  // namespace
}  // namespace sheaf
