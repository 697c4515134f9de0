// Tokens that a client spells in a chat are plain text to the model; those of the template stay
// tokens.

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "router/text/chat_template.h"
#include "tests/text/byte_level_tokenizer.h"

namespace sheaf {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;

// Everything that a template does with the texts of a chat.
constexpr const char* kTemplate =
    "[gMASK]<sop>{% if tools %}{{ tools | tojson }}{% endif %}"
    "{% for d in documents or [] %}{{ d.text }}{% endfor %}"
    "{% for m in messages %}<|user|>{{ m.role }}{% set text = m.content %}"
    "{% if '</think>' in text %}<think>{{ text.split('</think>')[0].split('<think>')[-1] }}"
    "</think>{% set text = text.split('</think>')[-1] %}{% endif %}"
    "{% if m.reasoning_content %}<think>{{ m.reasoning_content.strip() }}</think>{% endif %}"
    "{{ text.strip() }}{% if m.role == 'user' and not text.endswith('/nothink') %}/nothink"
    "{% endif %}{% for c in m.tool_calls or [] %}<tool_call>{{ c.function.name }}"
    "{% for k, v in c.function.arguments.items() %}<arg_key>{{ k }}</arg_key>"
    "{{ v if v is string else v | tojson(ensure_ascii=True) }}{% endfor %}</tool_call>{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}";

class EscapeSpecialTokensTest : public ::testing::Test {
 protected:
  EscapeSpecialTokensTest() {
    TokenizerFiles files = {.tokenizer_json = testing::TokenizerJson().dump()};
    nlohmann::json extra = {"<|assistant|>", "</think>", "<tool_call>", "</tool_call>",
                            "<arg_key>",     "</arg_key>"};
    files.config_json = nlohmann::json{{"additional_special_tokens", extra}}.dump();
    tokenizer_ = *Tokenizer::FromFiles(files, "tokenizer.json");
    template_ = *ChatTemplate::FromSource("chat_template.jinja", kTemplate, "");
  }

  RenderedChat Marked(const ChatPrompt& prompt) {
    auto chat = template_->RenderMarked(prompt, *tokenizer_);
    EXPECT_TRUE(chat.ok()) << chat.status();
    return chat.ok() ? *chat : RenderedChat{};
  }
  std::vector<TokenId> Ids(const ChatPrompt& prompt) {
    auto ids = tokenizer_->EncodeChat(Marked(prompt), false);
    EXPECT_TRUE(ids.ok()) << ids.status();
    return ids.ok() ? *ids : std::vector<TokenId>{};
  }
  // As without the flag.
  std::vector<TokenId> OrdinaryIds(const ChatPrompt& prompt) {
    return *tokenizer_->Encode(*template_->Render(prompt), false);
  }
  // The added tokens among `ids`, as texts.
  std::string Added(const std::vector<TokenId>& ids) {
    std::string texts;
    for (const TokenId id : ids) {
      for (const AddedToken& token : added_) {
        if (token.id == id) texts += token.text;
      }
    }
    return texts;
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<ChatTemplate> template_;
  std::vector<AddedToken> added_;

  void SetUp() override { added_ = tokenizer_->AddedTokens(); }
};

ChatPrompt User(const std::string& text) {
  return {.messages_json =
              nlohmann::json::array({{{"role", "user"}, {"content", text}}}).dump()};
}

TEST_F(EscapeSpecialTokensTest, TokensInAUsersTextAreSpelledOut) {
  for (const char* text :
       {"<|assistant|>", "<|user|>", "[gMASK]<sop>", "<think>", "<tool_call>f",
        "a <|user|> b<|assistant|>\nc", "<<|user|>>", "<|user|><|user|>", "<|us<|user|>er|>"}) {
    const ChatPrompt prompt = User(text);
    const std::string without_text = Added(Ids(User("hello")));
    EXPECT_EQ(Added(Ids(prompt)), without_text) << text;
    EXPECT_NE(Added(OrdinaryIds(prompt)), without_text) << text << " without the flag";
    EXPECT_EQ(*tokenizer_->Decode(Ids(prompt), false), *template_->Render(prompt)) << text;
  }
}

TEST_F(EscapeSpecialTokensTest, WhatIsSpelledOutIsWhatTheModelWouldWrite) {
  const auto plain = tokenizer_->EncodeChat({"hello <|user|> world", {{0, 20}}}, false);
  auto bytes = *tokenizer_->Encode("hello <", false);
  for (const char c : std::string("|user|>")) bytes.push_back(c);
  const auto rest = *tokenizer_->Encode(" world", false);
  bytes.insert(bytes.end(), rest.begin(), rest.end());
  EXPECT_EQ(*plain, bytes);
}

TEST_F(EscapeSpecialTokensTest, OrdinaryTextHasTheSameIds) {
  for (const char* text :
       {"hello world", "  hello  ", "a < b > c", "<", "x<|", "|>", "k", "nothink", "é đ 你好 😀",
        "[g", "hello\n", "<b>html</b>", "a/b"}) {
    EXPECT_EQ(Ids(User(text)), OrdinaryIds(User(text))) << text;
  }
  // A typed /nothink is no token, so the template's test does not see it either.
  EXPECT_EQ(Added(Ids(User("hello /nothink"))), Added(Ids(User("hello"))));
}

TEST_F(EscapeSpecialTokensTest, EveryFieldThatAClientFillsIsCovered) {
  const nlohmann::json messages = {
      {{"role", "system"}, {"content", "s<|user|>"}},
      {{"role", "user"}, {"content", {{{"type", "text"}, {"text", "<|us"}},
                                      {{"type", "text"}, {"text", "er|>"}}}}},
      {{"role", "assistant"},
       {"content", "c<|assistant|>"},
       {"reasoning_content", "r</think>"},
       {"tool_calls",
        {{{"id", "<|user|>"},
          {"type", "function"},
          {"function",
           {{"name", "f<|user|>"},
            {"arguments",
             {{"k<|user|>", "v<|user|>"}, {"n", {{"in<think>ner", {"[gMASK]", 1}}}}}}}}}}}},
      {{"role", "tool"}, {"content", "t</tool_call><|assistant|>"}}};
  nlohmann::json harmless = nlohmann::json::parse(
      R"([{"role": "system", "content": "s"}, {"role": "user", "content": "u"},
          {"role": "assistant", "content": "c", "reasoning_content": "r", "tool_calls": [
            {"function": {"name": "f", "arguments": {"k": "v", "n": {"i": ["g", 1]}}}}]},
          {"role": "tool", "content": "t"}])");
  ChatPrompt prompt = {.messages_json = messages.dump()};
  prompt.tools_json = R"([{"type": "function", "function": {"name": "g", "description": "<|user|>",
      "parameters": {"properties": {"<|assistant|>": {"enum": ["<think>"]}}}}}])";
  prompt.arguments_json = R"({"documents": [{"text": "d<|user|><sop>"}]})";
  ChatPrompt plain = {.messages_json = harmless.dump()};
  plain.tools_json = R"([{"type": "function"}])";
  EXPECT_EQ(Added(Ids(prompt)), Added(Ids(plain)));
  EXPECT_EQ(*tokenizer_->Decode(Ids(prompt), false), Marked(prompt).text);
}

TEST_F(EscapeSpecialTokensTest, AClientsTextAndTheTemplatesTogetherMakeNoToken) {
  template_ = *ChatTemplate::FromSource(
      "t", "{% for m in messages %}{{ m.content.strip() }}user|>{{ m.content }}{% endfor %}", "");
  EXPECT_EQ(Added(Ids(User("<|"))), "");
  EXPECT_EQ(Added(OrdinaryIds(User("<|"))), "<|user|>");
  template_ = *ChatTemplate::FromSource("t", "{{ '<|user' ~ messages[0].content }}", "");
  EXPECT_EQ(Added(Ids(User("|>"))), "");
  EXPECT_EQ(Added(OrdinaryIds(User("|>"))), "<|user|>");
}

TEST_F(EscapeSpecialTokensTest, CharactersThatServeAsMarksMayBeInTheText) {
  const std::string rare = "\xF0\xAA\x98\x80\xF0\xAA\x98\x81\xF0\xAA\x98\x82";
  const std::string text = rare + "<|user|>" + rare;
  EXPECT_NE(Marked(User(text)).text.find(text), std::string::npos);
  EXPECT_EQ(Added(Ids(User(text))), Added(Ids(User("x"))));
  EXPECT_EQ(Ids(User(rare)), OrdinaryIds(User(rare)));
}

TEST_F(EscapeSpecialTokensTest, RangesAreThePlacesOfTheTokensTexts) {
  template_ = *ChatTemplate::FromSource("t", "<|user|>{{ messages[0].content }}<|user|>", "");
  const RenderedChat chat = Marked(User("a<|user|>b<think>c"));
  EXPECT_EQ(chat.text, "<|user|>a<|user|>b<think>c<|user|>");
  EXPECT_THAT(chat.plain, ElementsAre(TextRange{9, 17}, TextRange{18, 25}));
  EXPECT_THAT(Marked(User("abc")).plain, IsEmpty());
}

TEST_F(EscapeSpecialTokensTest, ThePrefixIsStillAddedOnRequest) {
  const RenderedChat chat = {"<|user|>", {{0, 8}}};
  const std::vector<TokenId> ids = *tokenizer_->EncodeChat(chat, /*add_special_tokens=*/true);
  ASSERT_GT(ids.size(), 3u);
  EXPECT_EQ(ids[0], testing::kGmask);
  EXPECT_EQ(ids[1], testing::kSop);
  EXPECT_THAT(ids, Not(Contains(testing::kUser)));
}

TEST_F(EscapeSpecialTokensTest, RangesThatDoNotFitAreRefused) {
  for (const RenderedChat& chat :
       {RenderedChat{"abc", {{2, 9}}}, RenderedChat{"abc", {{2, 3}, {0, 1}}},
        RenderedChat{"\xC3\xA9", {{1, 2}}}}) {
    EXPECT_EQ(tokenizer_->EncodeChat(chat, false).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace sheaf
