#include "router/text/template_probe.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/text/byte_level_tokenizer.h"

namespace sheaf {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// The test tokenizer with further special tokens.
std::unique_ptr<Tokenizer> TokenizerWith(const std::vector<std::string>& special) {
  TokenizerFiles files = {.tokenizer_json = testing::TokenizerJson().dump()};
  files.config_json = nlohmann::json{{"additional_special_tokens", special}}.dump();
  auto tokenizer = Tokenizer::FromFiles(files, "tokenizer.json");
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

TemplateProbe Probe(std::string_view source, const Tokenizer& tokenizer) {
  auto chat_template = ChatTemplate::FromSource("dir/chat_template.jinja", source, "");
  EXPECT_TRUE(chat_template.ok()) << chat_template.status();
  return ProbeTemplate(**chat_template, tokenizer);
}

constexpr const char* kGlm =
    "[gMASK]<sop>{% for m in messages %}"
    "{% if m.role == 'tool' %}<|observation|>{{ m.content }}"
    "{% else %}<|{{ m.role }}|>{{ m.content }}{% endif %}"
    "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function.arguments | tojson }}</tool_call>"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}";

constexpr const char* kChatMl =
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for c in m.tool_calls or [] %}{{ c.function.arguments | tojson }}{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

TEST(TemplateProbeTest, ATurnEndsWhereAnotherRolesBegins) {
  const auto tokenizer = TokenizerWith({"<|assistant|>", "<|observation|>", "<|system|>"});
  const TemplateProbe probe = Probe(kGlm, *tokenizer);
  EXPECT_TRUE(probe.chats_at_all);
  EXPECT_THAT(probe.failures, IsEmpty());
  EXPECT_THAT(probe.torn_role_tokens, IsEmpty());
  EXPECT_THAT(probe.prefix, ElementsAre(testing::kGmask, testing::kSop));
  std::vector<std::string> ends;
  for (const TurnEnd& end : probe.turn_ends) {
    ends.push_back(std::string(tokenizer->TokenText(end.id)) + " before " + end.before);
  }
  EXPECT_THAT(ends, ElementsAre("<|user|> before a user's message",
                                "<|system|> before a system message",
                                "<|observation|> before a tool's result"));
}

TEST(TemplateProbeTest, ATokenThatClosesEveryTurnIsTheOnlyEnd) {
  const auto tokenizer = TokenizerWith({"<|im_start|>", "<|im_end|>"});
  const TemplateProbe probe = Probe(kChatMl, *tokenizer);
  ASSERT_THAT(probe.turn_ends, SizeIs(1));
  EXPECT_EQ(tokenizer->TokenText(probe.turn_ends[0].id), "<|im_end|>");
  EXPECT_THAT(probe.prefix, IsEmpty());
}

TEST(TemplateProbeTest, RoleTokensThatTheTokenizerCutsAreNamed) {
  const auto tokenizer = TokenizerWith({"<|observation|>", "<|system|>"});
  const TemplateProbe probe = Probe(kGlm, *tokenizer);
  ASSERT_THAT(probe.torn_role_tokens, SizeIs(1));
  EXPECT_EQ(probe.torn_role_tokens[0].text, "<|assistant|>");
  EXPECT_GT(probe.torn_role_tokens[0].num_pieces, 1u);
  ASSERT_THAT(probe.torn_tags, SizeIs(2));
  EXPECT_EQ(probe.torn_tags[0].text, "</tool_call>");
}

TEST(TemplateProbeTest, WhatFailsIsSaidWithFileAndLine) {
  const auto tokenizer = TokenizerWith({});
  const TemplateProbe tools =
      Probe("{{ messages[0].content }}\n{% if tools %}{{ tools[0].nothing.more }}{% endif %}",
            *tokenizer);
  EXPECT_TRUE(tools.chats_at_all);
  ASSERT_THAT(tools.failures, SizeIs(2));
  EXPECT_THAT(tools.failures[0], AllOf(HasSubstr("fails on tools"),
                                       HasSubstr("dir/chat_template.jinja:2")));
  EXPECT_THAT(tools.failures[1], HasSubstr("a tool call and its result"));
  const TemplateProbe system = Probe(
      "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}",
      *tokenizer);
  ASSERT_THAT(system.failures, SizeIs(1));
  EXPECT_THAT(system.failures[0],
              AllOf(HasSubstr("a system message"), HasSubstr("no system role")));
}

TEST(TemplateProbeTest, ATemplateThatRendersNoQuestionIsOfNoUse) {
  const auto tokenizer = TokenizerWith({});
  const TemplateProbe probe = Probe("{{ no_such_function() }}", *tokenizer);
  EXPECT_FALSE(probe.chats_at_all);
  EXPECT_THAT(probe.failures, ElementsAre(HasSubstr("a question")));
}

}  // namespace
}  // namespace sheaf
