#include "cli/commands/inspect_parsers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>

#include "cli/commands/checkpoint_text.h"
#include "nlohmann/json.hpp"

namespace sheaf {
namespace {

using testing::HasSubstr;

std::unique_ptr<ChatTemplate> Template(const char* source) {
  auto made = ChatTemplate::FromSource("test", source, "");
  EXPECT_TRUE(made.ok()) << made.status();
  return made.ok() ? *std::move(made) : nullptr;
}

constexpr char kPlain[] = "{% for m in messages %}{{ m.content }}{% endfor %}";
constexpr char kThinks[] =
    "{% for m in messages %}<think>{{ m.reasoning_content or '' }}</think>\n{{ m.content }}"
    "{% for c in m.tool_calls or [] %}\n<tool_call>{{ c.function.name }}\n"
    "{% for k, v in c.function.arguments.items() %}<arg_key>{{ k }}</arg_key>\n"
    "<arg_value>{{ v }}</arg_value>\n{% endfor %}</tool_call>{% endfor %}{% endfor %}";

TEST(InspectParsers, NamesWhatAutoTakes) {
  const auto glm45 = Template(kThinks);
  const std::string text = ParsersText(glm45.get());
  EXPECT_THAT(text, HasSubstr("tool calls   auto -> glm45\n"));
  EXPECT_THAT(text, HasSubstr("thoughts     auto -> glm45\n"));
  const auto json = nlohmann::json::parse(WithParsersJson(R"({"tensors": 3})", glm45.get()));
  EXPECT_EQ(json, nlohmann::json::parse(R"({"tensors": 3, "chat_template": true,
      "tool_call_parser": "glm45", "reasoning_parser": "glm45"})"));
}

TEST(InspectParsers, SaysWhenTheTemplateHasNone) {
  const auto plain = Template(kPlain);
  EXPECT_THAT(ParsersText(plain.get()), HasSubstr("auto -> none: the template writes no calls"));
  const auto json = nlohmann::json::parse(WithParsersJson("{}", plain.get()));
  EXPECT_EQ(json["chat_template"], true);
  EXPECT_EQ(json["tool_call_parser"], "none");
}

TEST(InspectParsers, SaysWhenThereIsNoTemplate) {
  EXPECT_THAT(ParsersText(nullptr), HasSubstr("no chat template"));
  const auto json = nlohmann::json::parse(WithParsersJson("{}", nullptr));
  EXPECT_EQ(json["chat_template"], false);
  EXPECT_EQ(json["reasoning_parser"], "none");
}

TEST(InspectParsers, AFolderWithoutTemplateIsNoError) {
  const std::string folder = testing::TempDir() + "/sheaf_inspect_parsers_test";
  std::filesystem::create_directories(folder);
  const auto none = LoadChatTemplate(folder);
  ASSERT_TRUE(none.ok()) << none.status();
  EXPECT_EQ(*none, nullptr);
}

}  // namespace
}  // namespace sheaf
