#include "router/text/chat_template.h"

#include <filesystem>
#include <fstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace sheaf {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr const char* kHello = R"([{"role": "user", "content": "Hello"}])";

absl::StatusOr<std::string> RenderSource(std::string_view source, const ChatPrompt& prompt,
                                         std::string_view globals = "") {
  auto chat_template = ChatTemplate::FromSource("dir/chat_template.jinja", source, globals);
  if (!chat_template.ok()) return chat_template.status();
  return (*chat_template)->Render(prompt);
}

// The text of an expression over the template's argument `x`.
std::string Eval(std::string_view expression, std::string_view x_json) {
  ChatPrompt prompt{.messages_json = kHello};
  prompt.arguments_json = "{\"x\": " + std::string(x_json) + "}";
  auto text = RenderSource("{{ " + std::string(expression) + " }}", prompt);
  return text.ok() ? *text : std::string(text.status().message());
}

void ExpectError(const absl::StatusOr<std::string>& text, absl::StatusCode code,
                 std::string_view part) {
  EXPECT_EQ(text.status().code(), code) << text.status();
  EXPECT_THAT(std::string(text.status().message()), HasSubstr(std::string(part)));
}

TEST(ChatTemplateTest, RendersMessagesToolsArgumentsAndTheGenerationPrompt) {
  constexpr const char* kSource =
      "{% for m in messages %}\n"
      "    <|{{ m.role }}|>{{ m.content }}\n"
      "{% endfor %}\n"
      "{% if tools %}tools={{ tools | tojson }}{% endif %}"
      "{{ '/nothink' if enable_thinking is defined and not enable_thinking else '' }}"
      "{% if add_generation_prompt %}<|assistant|>{% endif %}";
  ChatPrompt prompt{.messages_json = kHello};
  EXPECT_EQ(*RenderSource(kSource, prompt), "    <|user|>Hello\n<|assistant|>");
  prompt.tools_json = R"([{"name": "f", "b": 1, "a": "<é>"}])";
  prompt.arguments_json = R"({"enable_thinking": false})";
  prompt.add_generation_prompt = false;
  EXPECT_EQ(*RenderSource(kSource, prompt),
            "    <|user|>Hello\ntools=[{\"name\": \"f\", \"b\": 1, \"a\": \"<é>\"}]/nothink");
}

TEST(ChatTemplateTest, TojsonIsPythonsJsonDumps) {
  struct Case {
    const char* expression;
    const char* x;
    const char* want;
  };
  for (const Case& c : std::initializer_list<Case>{
           {"x | tojson", R"({"b": 1, "a": [true, null, "é<&'>"]})",
            R"({"b": 1, "a": [true, null, "é<&'>"]})"},
           {"x | tojson(ensure_ascii=True)", R"("é😀\u007f")", R"("\u00e9\ud83d\ude00\u007f")"},
           {"x | tojson", R"("\u0001\b\f\n\r\t\"\\/")", R"("\u0001\b\f\n\r\t\"\\/")"},
           {"x | tojson(sort_keys=True)", R"({"b": 1, "a": 2})", R"({"a": 2, "b": 1})"},
           {"x | tojson(indent=2)", R"({"a": [1, {}], "b": []})",
            "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": []\n}"},
           {"x | tojson(separators=(',', ':'))", R"({"a": [1, 2]})", R"({"a":[1,2]})"},
           {"x | tojson", "[1.0, 0.1, 1e15, 1e16, 0.0001, 0.00001, 1.5e-7, -0.0, 1e300]",
            "[1.0, 0.1, 1000000000000000.0, 1e+16, 0.0001, 1e-05, 1.5e-07, -0.0, 1e+300]"},
           {"x | tojson", "[9007199254740993, -9223372036854775808, 18446744073709551615]",
            "[9007199254740993, -9223372036854775808, 18446744073709551615]"},
           {"x | tojson(ensure_ascii=False, indent=None)", "[]", "[]"}}) {
    EXPECT_EQ(Eval(c.expression, c.x), c.want) << c.expression << " of " << c.x;
  }
}

TEST(ChatTemplateTest, PythonMethodsAndTestsBehaveAsInJinja2) {
  EXPECT_EQ(Eval("x.split('</think>')[-1].lstrip('\\n').rstrip()", R"("a</think>\n\nb ")"), "b");
  EXPECT_EQ(Eval("x.endswith('/nothink')", R"("hi/nothink")"), "True");
  EXPECT_EQ(Eval("x is iterable", "null"), "False");
  EXPECT_EQ(Eval("x is iterable", "[]"), "True");
  EXPECT_EQ(Eval("x is string or x is mapping", "{}"), "True");
  EXPECT_EQ(Eval("x.items() | list | tojson", R"({"b": 1, "a": 2})"), R"([["b", 1], ["a", 2]])");
  EXPECT_EQ(Eval("x", "null"), "None");
  EXPECT_EQ(Eval("x.nothing", "{}"), "");
}

TEST(ChatTemplateTest, ATemplateThatDoesNotCompileIsNamedWithFileAndLine) {
  auto chat_template =
      ChatTemplate::FromSource("dir/chat_template.jinja", "line one\n{% if x %}\n{{ }}", "");
  EXPECT_EQ(chat_template.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(chat_template.status().message()),
              HasSubstr("dir/chat_template.jinja:3"));
}

TEST(ChatTemplateTest, ATemplateThatFailsWhileRenderingIsNamedWithFileAndLine) {
  const ChatPrompt prompt{.messages_json = kHello};
  ExpectError(RenderSource("one\n{{ messages.nothing.more }}", prompt),
              absl::StatusCode::kInvalidArgument, "dir/chat_template.jinja:2");
  ExpectError(RenderSource("{{ raise_exception('roles must alternate') }}", prompt),
              absl::StatusCode::kInvalidArgument, "roles must alternate");
  ExpectError(RenderSource("{{ no_such_function('%Y') }}", prompt),
              absl::StatusCode::kInvalidArgument, "no_such_function");
}

TEST(ChatTemplateTest, TheLocalTimeIsAnInput) {
  ChatPrompt prompt{.messages_json = kHello};
  prompt.local_seconds = 1'709'210'096;  // 2024-02-29 12:34:56
  EXPECT_EQ(*RenderSource("{{ strftime_now('%d %B %Y, %H:%M:%S, day %j, %A') }}", prompt),
            "29 February 2024, 12:34:56, day 060, Thursday");
  prompt.local_seconds = -1;
  EXPECT_EQ(*RenderSource("{{ strftime_now('%F %T %y') }}", prompt), "1969-12-31 23:59:59 69");
  prompt.local_seconds = 951'782'400 + 86'400;  // the day after a leap day of a century
  EXPECT_EQ(*RenderSource("{{ strftime_now('%F %j %a') }}", prompt), "2000-03-01 061 Wed");
}

TEST(ChatTemplateTest, IntegersOfAnyLengthKeepTheirDigits) {
  const std::string digits(70, '7');
  for (const std::string& number : {digits, "-" + digits, std::string("18446744073709551616"),
                                    std::string("-9223372036854775809"), std::string("0")}) {
    EXPECT_EQ(Eval("x | tojson", "[" + number + "]"), "[" + number + "]");
    EXPECT_EQ(Eval("x", number), number);
    EXPECT_EQ(Eval("'%s' % x ~ x", number), number + number);
    EXPECT_EQ(Eval("x is number and x is not string and x is not mapping", number), "True");
  }
  // Through the messages' own normal form and arguments given as text.
  constexpr const char* kSource =
      "{{ messages[0].tool_calls[0].function.arguments | tojson }}"
      "{{ messages[0].tool_calls[1].function.arguments | tojson }}";
  const auto render = [&](const std::string& arguments_text) {
    const nlohmann::json calls = {{{"function", {{"name", "f"}, {"arguments", "OBJECT"}}}},
                                  {{"function", {{"name", "f"}, {"arguments", arguments_text}}}}};
    std::string messages =
        nlohmann::json::array({{{"role", "assistant"}, {"tool_calls", calls}}}).dump();
    messages.replace(messages.find("\"OBJECT\""), 8,
                     R"({"a": )" + digits + R"(, "b": 0.1, "c": -0})");
    return RenderSource(kSource, {.messages_json = messages});
  };
  EXPECT_EQ(*render(R"({"a": )" + digits + "}"),
            R"({"a": )" + digits + R"(, "b": 0.1, "c": 0}{"a": )" + digits + "}");
  ExpectError(render(R"({"b": 1e400000000000000})"), absl::StatusCode::kInvalidArgument,
              "arguments is not valid JSON");
  ExpectError(render(digits), absl::StatusCode::kInvalidArgument,
              "must be a JSON object, got a number");
  // What stands for a long integer inside is a text's own when a text has it.
  EXPECT_EQ(Eval("x | tojson", R"({"\u0000digits": "12a"})"), R"({"\u0000digits": "12a"})");
}

TEST(ChatTemplateTest, EndlessRecursionIsAnError) {
  ExpectError(
      RenderSource("{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", {.messages_json = kHello}),
      absl::StatusCode::kInvalidArgument, "recursion");
}

TEST(ChatTemplateTest, InputThatIsNotTheRightJsonIsAnError) {
  const auto render = [](ChatPrompt prompt) {
    return RenderSource("{{ messages[0].content }}", prompt);
  };
  const auto invalid = absl::StatusCode::kInvalidArgument;
  ExpectError(render({.messages_json = "[{"}), invalid, "messages: not valid JSON");
  ExpectError(render({.messages_json = ""}), invalid, "messages must be an array");
  ExpectError(render({.messages_json = kHello, .tools_json = "{}"}), invalid,
              "tools must be an array");
  ExpectError(render({.messages_json = kHello, .arguments_json = "[]"}), invalid,
              "must be an object");
  ExpectError(render({.messages_json = kHello, .arguments_json = R"({"messages": []})"}), invalid,
              "messages");
  ExpectError(render({.messages_json = std::string(100'000, '[') + std::string(100'000, ']')}),
              invalid, "recursion");
}

class ChatTemplateLoadTest : public ::testing::Test {
 protected:
  void SetUp() override {
    dir_ = ::testing::TempDir() + "/chat_template_load_test";
    std::filesystem::remove_all(dir_);
    std::filesystem::create_directories(dir_);
  }
  void Write(const std::string& name, const std::string& content) {
    std::ofstream(dir_ + "/" + name) << content;
  }
  std::string LoadAndRender() {
    auto chat_template = ChatTemplate::Load(dir_);
    if (!chat_template.ok()) return chat_template.status().ToString();
    auto text = (*chat_template)->Render({.messages_json = kHello});
    return text.ok() ? *text : text.status().ToString();
  }
  std::string dir_;
};

TEST_F(ChatTemplateLoadTest, TheFileOfItsOwnComesBeforeTheConfig) {
  Write("tokenizer_config.json", R"({"chat_template": "from config"})");
  EXPECT_EQ(LoadAndRender(), "from config");
  Write("chat_template.jinja", "from file");
  EXPECT_EQ(LoadAndRender(), "from file");
}

TEST_F(ChatTemplateLoadTest, OfAListTheDefaultIsTaken) {
  Write(
      "tokenizer_config.json",
      R"({"chat_template": [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "yes"}]})");
  EXPECT_EQ(LoadAndRender(), "yes");
}

TEST_F(ChatTemplateLoadTest, ToolsHaveTheirOwnTemplateWhereThereIsOne) {
  const auto with_tools = [this] {
    auto text = (*ChatTemplate::Load(dir_))
                    ->Render({.messages_json = kHello, .tools_json = R"([{"type": "function"}])"});
    return text.ok() ? *text : text.status().ToString();
  };
  Write(
      "tokenizer_config.json",
      R"({"chat_template": [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "none"}]})");
  EXPECT_EQ(with_tools(), "tools");
  EXPECT_EQ(LoadAndRender(), "none");
  // Files come before the config's list.
  Write("chat_template.jinja", "file");
  EXPECT_EQ(with_tools(), "file");
  std::filesystem::create_directories(dir_ + "/additional_chat_templates");
  Write("additional_chat_templates/tool_use.jinja", "file with tools");
  Write("additional_chat_templates/notes.txt", "{% if %}");
  EXPECT_EQ(with_tools(), "file with tools");
  EXPECT_EQ(LoadAndRender(), "file");
}

TEST_F(ChatTemplateLoadTest, AListWithoutADefaultIsAnErrorThatNamesTheFile) {
  Write("tokenizer_config.json", R"({"chat_template": [{"name": "rag", "template": "x"}]})");
  EXPECT_THAT(LoadAndRender(), AllOf(HasSubstr("tokenizer_config.json"),
                                     HasSubstr("no template named \"default\"")));
}

TEST_F(ChatTemplateLoadTest, TheOlderFileOfItsOwnIsTheLastPlace) {
  Write("chat_template.json", R"({"chat_template": "older"})");
  EXPECT_EQ(LoadAndRender(), "older");
  Write("tokenizer_config.json", R"({"chat_template": "newer"})");
  EXPECT_EQ(LoadAndRender(), "newer");
}

TEST_F(ChatTemplateLoadTest, SpecialTokensOfTheOlderMapCountWithoutAListOfAddedTokens) {
  Write("special_tokens_map.json", R"({"eos_token": {"content": "<eos>"}})");
  Write("chat_template.jinja", "{{ eos_token }}{{ image_token }}");
  Write("tokenizer_config.json", R"({"image_token": "<img>"})");
  EXPECT_EQ(LoadAndRender(), "<eos><img>");
  Write("tokenizer_config.json", R"({"image_token": "<img>", "added_tokens_decoder": {}})");
  EXPECT_EQ(LoadAndRender(), "<img>");
}

TEST_F(ChatTemplateLoadTest, SpecialTokensOfTheConfigAreVariables) {
  Write(
      "tokenizer_config.json",
      R"({"eos_token": "<|endoftext|>", "pad_token": {"content": "<pad>", "special": true}, "bos_token": null})");
  Write("chat_template.jinja", "{{ bos_token }}{{ eos_token }}{{ pad_token }}");
  EXPECT_EQ(LoadAndRender(), "<|endoftext|><pad>");
}

TEST_F(ChatTemplateLoadTest, ACheckpointWithoutATemplateIsNotFound) {
  EXPECT_EQ(ChatTemplate::Load(dir_).status().code(), absl::StatusCode::kNotFound);
  Write("tokenizer_config.json", R"({"eos_token": "x"})");
  EXPECT_EQ(ChatTemplate::Load(dir_).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(ChatTemplateLoadTest, BrokenFilesAreNamed) {
  Write("tokenizer_config.json", "[]");
  EXPECT_THAT(LoadAndRender(),
              AllOf(HasSubstr("INVALID_ARGUMENT"), HasSubstr(dir_ + "/tokenizer_config.json")));
  Write("tokenizer_config.json", R"({"chat_template": 7})");
  EXPECT_THAT(LoadAndRender(), HasSubstr("must be a string or a list, got number"));
  Write("tokenizer_config.json", R"({"chat_template": "{% if %}"})");
  EXPECT_THAT(LoadAndRender(), HasSubstr("/tokenizer_config.json#chat_template:1"));
  Write("chat_template.jinja", "a\nb\n{% endfor %}");
  EXPECT_THAT(LoadAndRender(), HasSubstr(dir_ + "/chat_template.jinja:3"));
}

}  // namespace
}  // namespace sheaf
