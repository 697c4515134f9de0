// Conversations render as real Jinja2 renders them, byte for byte: ours under our own templates
// (chat_renders.json, made by chat_renders.py), and where the families' templates are at hand,
// theirs.

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "router/text/chat_template.h"

namespace sheaf {
namespace {

using Json = nlohmann::ordered_json;

std::string ReferenceData() {
  const char* dir = std::getenv("SHEAF_REFERENCE_DATA");
  return dir != nullptr ? dir : SHEAF_REFERENCE_DATA;
}

std::string ReadFile(const std::string& path) {
  std::ostringstream content;
  content << std::ifstream(path, std::ios::binary).rdbuf();
  return content.str();
}

ChatPrompt ToPrompt(const Json& input) {
  ChatPrompt prompt;
  Json arguments = Json::object();
  for (const auto& [key, value] : input.items()) {
    if (key == "messages") {
      prompt.messages_json = value.dump();
    } else if (key == "tools") {
      prompt.tools_json = value.dump();
    } else if (key == "add_generation_prompt") {
      prompt.add_generation_prompt = value.get<bool>();
    } else {
      arguments[key] = value;
    }
  }
  prompt.arguments_json = arguments.dump();
  return prompt;
}

TEST(GoldenChatTest, OurTemplatesRenderAsInJinja2) {
  const Json cases = Json::parse(ReadFile(SHEAF_SOURCE_DIR "/tests/text/chat_renders.json"));
  ASSERT_GT(cases.size(), 80u);
  int refused = 0;
  for (const Json& c : cases) {
    const std::string file = c["template"].get<std::string>();
    SCOPED_TRACE(file + ": " + c["case"].get<std::string>());
    auto chat_template =
        ChatTemplate::FromSource(file, ReadFile(SHEAF_SOURCE_DIR "/" + file), "");
    ASSERT_TRUE(chat_template.ok()) << chat_template.status();
    const auto text = (*chat_template)->RenderVerbatim(ToPrompt(c["variables"]));
    if (c["text"].is_null()) {
      EXPECT_EQ(text.status().code(), absl::StatusCode::kInvalidArgument);
      ++refused;
    } else {
      ASSERT_TRUE(text.ok()) << text.status();
      EXPECT_EQ(*text, c["text"].get<std::string>());
    }
  }
  EXPECT_GT(refused, 0);
}

TEST(GoldenChatTest, EveryCaseOfEveryTemplateAgreesWithJinja2) {
  const std::string data = ReferenceData();
  if (!std::filesystem::is_directory(data + "/golden_chat")) {
    GTEST_SKIP() << "no golden renders in " << data << " (SHEAF_REFERENCE_DATA)";
  }
  int num_templates = 0;
  int num_cases = 0;
  for (const auto& entry : std::filesystem::directory_iterator(data + "/golden_chat")) {
    if (entry.path().extension() != ".json") continue;
    const Json golden = Json::parse(ReadFile(entry.path()));
    const std::string path = data + "/" + golden["template"].get<std::string>();
    auto chat_template = ChatTemplate::FromSource(path, ReadFile(path), "");
    ASSERT_TRUE(chat_template.ok()) << chat_template.status();
    ++num_templates;
    for (const Json& c : golden["cases"]) {
      SCOPED_TRACE(entry.path().filename().string() + ": " + c["case"].get<std::string>());
      ++num_cases;
      auto text = (*chat_template)->RenderVerbatim(ToPrompt(c["input"]));
      if (c.contains("error")) {
        EXPECT_EQ(text.status().code(), absl::StatusCode::kInvalidArgument) << c["error"];
        continue;
      }
      ASSERT_TRUE(text.ok()) << text.status();
      EXPECT_EQ(*text, c["rendered"].get<std::string>());
    }
  }
  EXPECT_GE(num_templates, 5);
  EXPECT_GE(num_cases, 165);
}

// The four inputs that GLM's own template gets wrong or refuses come out right through Render.
TEST(GoldenChatTest, ClientMessagesRenderAsTheTemplateMeansThem) {
  const std::string path = ReferenceData() + "/glm45/chat_template.jinja";
  if (!std::filesystem::exists(path)) {
    GTEST_SKIP() << "no " << path << " (SHEAF_REFERENCE_DATA)";
  }
  auto chat_template = ChatTemplate::FromSource(path, ReadFile(path), "");
  ASSERT_TRUE(chat_template.ok()) << chat_template.status();
  const auto render = [&](const char* messages) {
    auto text = (*chat_template)->Render({.messages_json = messages});
    return text.ok() ? *text : text.status().ToString();
  };
  EXPECT_EQ(render(R"([{"role": "developer", "content": "d"}, {"role": "user", "content": "x"}])"),
            "[gMASK]<sop><|system|>\nd<|user|>\nx<|assistant|>");
  EXPECT_EQ(
      render(R"([{"role": "user", "content": "x"},
                       {"role": "assistant", "content": null, "tool_calls": [
                         {"function": {"name": "f", "arguments": "{\"city\": \"Paris\", \"n\": 2}"}}]},
                       {"role": "tool", "content": [{"type": "text", "text": "12:00"}]}])"),
      "[gMASK]<sop><|user|>\nx<|assistant|>\n<think></think>\n<tool_call>f\n<arg_key>city</"
      "arg_key>\n"
      "<arg_value>Paris</arg_value>\n<arg_key>n</arg_key>\n<arg_value>2</arg_value>\n</tool_call>"
      "<|observation|>\n<tool_response>\n12:00\n</tool_response><|assistant|>");
}

}  // namespace
}  // namespace sheaf
