// Small templates of our own render as Jinja2 3.1.6 renders them in transformers 5.24's
// environment; jinja_cases.json holds what that gave (null: an error) at 2024-02-29 12:34:56.

#include <fstream>
#include <sstream>
#include <string>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "router/text/chat_template.h"

namespace sheaf {
namespace {

using Json = nlohmann::ordered_json;

TEST(JinjaCasesTest, EveryTemplateRendersAsInJinja2) {
  std::ostringstream content;
  content << std::ifstream(SHEAF_SOURCE_DIR "/tests/text/jinja_cases.json").rdbuf();
  const Json cases = Json::parse(content.str());
  ASSERT_GT(cases.size(), 250u);
  for (const Json& c : cases) {
    const std::string source = c["template"].get<std::string>();
    SCOPED_TRACE(source + "   of   " + c["variables"].get<std::string>());
    ChatPrompt prompt{.messages_json = "[]"};
    prompt.arguments_json = c["variables"].get<std::string>();
    prompt.local_seconds = 1'709'210'096;
    absl::StatusOr<std::string> text = absl::UnknownError("");
    auto chat_template = ChatTemplate::FromSource("t", source, "");
    if (chat_template.ok()) text = (*chat_template)->RenderVerbatim(prompt);
    if (c["text"].is_null()) {
      EXPECT_FALSE(text.ok()) << *text;
    } else {
      ASSERT_TRUE(text.ok()) << text.status() << chat_template.status();
      EXPECT_EQ(*text, c["text"].get<std::string>());
    }
  }
}

}  // namespace
}  // namespace sheaf
