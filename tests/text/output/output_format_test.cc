#include "router/text/output/output_format.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "gtest/gtest.h"
#include "tests/text/byte_level_tokenizer.h"

namespace sheaf {
namespace {

constexpr const char* kNano = SHEAF_SOURCE_DIR "/checkpoints/sheaf-nano-120";

std::string FormatsOf(const ChatTemplate& chat_template) {
  const TagFormats formats = DetectTagFormats(chat_template);
  return std::string(TagFormatName(formats.tools)) + " " + TagFormatName(formats.reasoning);
}

std::string FormatsOfSource(std::string_view source) {
  const auto chat_template = ChatTemplate::FromSource("test.jinja", source, "");
  if (!chat_template.ok()) return std::string(chat_template.status().message());
  return FormatsOf(**chat_template);
}

TEST(OutputFormatTest, TheTrainedCheckpointIsGlm45) {
  const auto chat_template = ChatTemplate::Load(kNano);
  ASSERT_TRUE(chat_template.ok()) << chat_template.status();
  EXPECT_EQ(FormatsOf(**chat_template), "glm45 glm45");
}

TEST(OutputFormatTest, OurTemplatesOfBothFamilies) {
  const auto formats = [](const std::string& file) {
    std::ostringstream source;
    source << std::ifstream(SHEAF_SOURCE_DIR "/tests/oracle/" + file, std::ios::binary).rdbuf();
    return FormatsOfSource(source.str());
  };
  EXPECT_EQ(formats("chat_template.jinja"), "glm45 glm45");
  EXPECT_EQ(formats("chat_template_latent.jinja"), "glm47 glm47");
}

// Those that are not ours, where they are at hand.
TEST(OutputFormatTest, TheFamiliesTemplates) {
  const char* dir = std::getenv("SHEAF_REFERENCE_DATA");
  const std::string data = dir != nullptr ? dir : SHEAF_REFERENCE_DATA;
  if (!std::filesystem::is_directory(data)) {
    GTEST_SKIP() << "no templates in " << data << " (SHEAF_REFERENCE_DATA)";
  }
  const auto formats = [&](const std::string& file) {
    std::ostringstream source;
    source << std::ifstream(data + "/" + file, std::ios::binary).rdbuf();
    return FormatsOfSource(source.str());
  };
  EXPECT_EQ(formats("glm45/chat_template.jinja"), "glm45 glm45");
  EXPECT_EQ(formats("chat_template_GLM-4.6.jinja"), "glm45 glm45");
  EXPECT_EQ(formats("chat_template_GLM-4.7-Flash.jinja"), "glm47 glm47");
  EXPECT_EQ(formats("chat_template_GLM-5.1.RECONSTRUCTED.jinja"), "glm47 glm47");
  EXPECT_EQ(formats("chat_template_GLM-5.2.jinja"), "glm47 glm47");
}

TEST(OutputFormatTest, ToolsAndReasoningAreToldApart) {
  EXPECT_EQ(FormatsOfSource("{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"),
            "none none");
  EXPECT_EQ(FormatsOfSource("{% for m in messages %}{% if m.reasoning_content %}"
                            "<think>\n{{ m.reasoning_content }}\n</think>\n{% endif %}"
                            "{{ m.content }}{% endfor %}"),
            "none glm45");
  EXPECT_EQ(FormatsOfSource(
                "{% for m in messages %}{{ m.content }}{% for c in m.tool_calls or [] %}"
                "<tool_call>{{ c.function.name }}{% for k, v in c.function.arguments.items() %}"
                "<arg_key>{{ k }}</arg_key><arg_value>{{ v }}</arg_value>{% endfor %}</tool_call>"
                "{% endfor %}{% endfor %}"),
            "glm47 none");
  // Calls as JSON are another family's.
  EXPECT_EQ(FormatsOfSource("{% for m in messages %}{% for c in m.tool_calls or [] %}"
                            "<tool_call>\n{{ c.function | tojson }}\n</tool_call>{% endfor %}"
                            "{% endfor %}"),
            "none none");
}

TEST(OutputFormatTest, ATemplateThatRefusesToolsMayStillShowThoughts) {
  EXPECT_EQ(FormatsOfSource("{% for m in messages %}{% if m.role == 'tool' %}"
                            "{{ raise_exception('no tools') }}{% endif %}"
                            "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>"
                            "{% endif %}{{ m.content }}{% endfor %}"),
            "none glm47");
}

TEST(OutputFormatTest, TagTokensOfTheTrainedCheckpoint) {
  const auto tokenizer = Tokenizer::Load(kNano);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const auto ids = FindOutputTags(**tokenizer).InOrder();
  for (size_t i = 0; i < kNumOutputTags; ++i) {
    const std::string_view text = OutputTagText(static_cast<OutputTag>(i));
    EXPECT_EQ(ids[i], (*tokenizer)->FindToken(text)) << text;
    EXPECT_TRUE(ids[i].has_value()) << text;
  }
}

TEST(OutputFormatTest, OnlyAddedTokensAreTags) {
  nlohmann::json json = testing::TokenizerJson();
  nlohmann::json& vocab = json["model"]["vocab"];  // the model's own vocabulary
  vocab.erase(testing::ByteSymbol(0xFF));
  vocab["<tool_call>"] = 0xFF;
  const auto tokenizer = Tokenizer::FromJson(json.dump(), "test tokenizer");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  ASSERT_TRUE((*tokenizer)->FindToken("<tool_call>").has_value());
  const OutputTags tags = FindOutputTags(**tokenizer);
  EXPECT_EQ(tags.think_begin, testing::kThink);
  EXPECT_EQ(tags.think_end, std::nullopt);
  EXPECT_EQ(tags.call_begin, std::nullopt);
}

TEST(OutputFormatTest, WhereTheOutputBegins) {
  EXPECT_EQ(FindOutputStart("<|user|>hi<|assistant|><think>"), OutputStart::kThoughts);
  EXPECT_EQ(FindOutputStart("<|user|>hi<|assistant|>\n<think>\n"), OutputStart::kThoughts);
  EXPECT_EQ(FindOutputStart("<|user|>hi<|assistant|>"), OutputStart::kContent);
  EXPECT_EQ(FindOutputStart("<|user|>hi<|assistant|></think>"), OutputStart::kContent);
  EXPECT_EQ(FindOutputStart("<|user|>hi<|assistant|>\n<think></think>"), OutputStart::kContent);
  EXPECT_EQ(FindOutputStart(""), OutputStart::kContent);
}

}  // namespace
}  // namespace sheaf
