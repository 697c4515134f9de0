// What a request may cost before and while it is prepared, and what an error says of a large input.
#include <string>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "router/api/generation/token_service.h"
#include "router/api/openai/openai_request.h"
#include "router/api/request/fairness_key.h"
#include "router/api/request/json/excerpt.h"
#include "router/api/request/json/json_fields.h"
#include "router/api/request/json/json_shape.h"
#include "router/api/request/prompt/text_bounds.h"
#include "tests/api/api_fixture.h"

namespace sheaf {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

class RequestBounds : public testing::Test {
 protected:
  static constexpr size_t kContext = 512;  // of the fake engine
  RequestBounds() { api_.codec.longest_token = 4; }

  static ParsedRequest Text(size_t bytes) {
    ParsedRequest request;
    request.prompts.emplace_back(std::string(bytes, 'x'));
    return request;
  }
  static ParsedRequest Chat(size_t bytes) {
    auto body = ParseChatBody(R"({"messages":[{"role":"user","content":")" +
                              std::string(bytes, 'x') + R"("}]})");
    return std::get<OpenAiRequest>(std::move(body)).request;
  }
  ApiResult<PreparedRequest> Prepare(const ParsedRequest& request, ClientLeft left = {}) {
    return PrepareRequest(request, api_.context.validation(std::move(left)));
  }
  static std::string Refusal(const auto& result) {
    const auto* error = std::get_if<ApiError>(&result);
    return error == nullptr ? "" : std::string(error->status.message());
  }

  ApiFixture api_;
};

TEST_F(RequestBounds, TextThatCannotFitIsNeverTokenized) {
  for (const ParsedRequest& request : {Text(kContext * 4 + 1), Chat(kContext * 4 + 1)}) {
    EXPECT_THAT(Refusal(Prepare(request)), HasSubstr("maximum context length is 512 tokens"));
    EXPECT_THAT(Refusal(TokenizeInput(request, api_.context, {})), HasSubstr("cannot fit"));
  }
  EXPECT_EQ(api_.codec.encoded, 0);
  EXPECT_EQ(Refusal(TokenizeInput(Text(kContext * 4), api_.context, {})), "");
}

TEST_F(RequestBounds, WhatTheTemplateMakesOfAChatIsBoundedToo) {
  EXPECT_THAT(Refusal(Prepare(Chat(kContext * 4 - 3))), HasSubstr("cannot fit"));
  EXPECT_THAT(Refusal(TokenizeInput(Chat(kContext * 4 - 3), api_.context, {})),
              HasSubstr("cannot fit"));
  EXPECT_EQ(api_.codec.encoded, 0);
}

TEST_F(RequestBounds, ATruncatedTextMayBeLongerWithABoundOfItsOwn) {
  ParsedRequest request = Text(kContext * 256);
  request.truncate_prompt_tokens = 10;
  EXPECT_EQ(Refusal(Prepare(request)), "");
  request = Text(kContext * 256 + 1);
  request.truncate_prompt_tokens = 10;
  EXPECT_THAT(Refusal(Prepare(request)), HasSubstr("cannot fit"));
}

TEST_F(RequestBounds, WithoutABoundOnTokensALargeOneHolds) {
  api_.codec.longest_token.reset();
  EXPECT_EQ(MaxTextBytes(Text(1), api_.context.validation()), kContext * 256);
}

TEST_F(RequestBounds, TokenizingEndsWhereTheContextDoes) {
  api_.codec.longest_token.reset();
  EXPECT_THAT(Refusal(Prepare(Text(100'000))), HasSubstr("(513 or more in the prompt"));
}

TEST_F(RequestBounds, AClientThatHasLeftIsNotTokenized) {
  const auto result = Prepare(Text(10), [] { return true; });
  EXPECT_EQ(std::get<ApiError>(result).status.code(), absl::StatusCode::kCancelled);
  const auto tokens = TokenizeInput(Chat(10), api_.context, [] { return true; });
  EXPECT_EQ(std::get<ApiError>(tokens).status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(api_.codec.encoded, 0);
}

TEST_F(RequestBounds, NorIsOneThatLeavesAfterTheFirstOfItsPrompts) {
  ParsedRequest request = Text(10);
  for (int i = 0; i < 9; ++i) request.prompts.emplace_back("abc");
  const auto result = Prepare(request, [this] { return api_.codec.encoded >= 2; });
  EXPECT_EQ(std::get<ApiError>(result).status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(api_.codec.encoded, 2);
}

TEST_F(RequestBounds, AllChoicesTogetherHaveABound) {
  api_.limits.max_waiting_tokens = 300;
  ParsedRequest request = Text(99);  // and the prefix
  request.n = 3;
  EXPECT_EQ(Refusal(Prepare(request)), "");
  request.n = 4;
  EXPECT_THAT(Refusal(Prepare(request)),
              HasSubstr("prompt: at most 300 tokens a request in all of its choices, got 100 x"));
  request.n = 1;
  for (int i = 0; i < 3; ++i) request.prompts.emplace_back(std::string(99, 'x'));
  EXPECT_THAT(Refusal(Prepare(request)), HasSubstr("got 400 x n = 1"));
}

TEST_F(RequestBounds, AllowedTokenIdsAreBoundedAndSharedByTheChoices) {
  ParsedRequest request = Text(3);
  request.n = 3;
  request.allowed_token_ids = {9, 7, 9, 7, 8};
  const auto result = Prepare(request);
  const auto& choices = std::get<PreparedRequest>(result).choices;
  EXPECT_THAT(choices[0].sampling.allowed_token_ids, ElementsAre(7, 8, 9));
  EXPECT_EQ(choices[0].sampling.allowed_token_ids.data(),
            choices[2].sampling.allowed_token_ids.data());
  request.allowed_token_ids.assign(FakeTextCodec::kVocabSize + 1, 7);
  EXPECT_THAT(Refusal(Prepare(request)), HasSubstr("allowed_token_ids: at most 260 entries"));
}

TEST_F(RequestBounds, OrderFieldsReachTheEngine) {
  auto body = ParseCompletionBody(R"({"prompt":"x","priority":-3,"cache_salt":"abc"})");
  ParsedRequest request = std::get<OpenAiRequest>(std::move(body)).request;
  request.fairness_key = "key:me";
  const auto result = Prepare(request);
  const GenerationRequest& choice = std::get<PreparedRequest>(result).choices.front();
  EXPECT_EQ(choice.priority, -3);
  EXPECT_EQ(choice.cache_salt, "abc");
  EXPECT_EQ(choice.fairness_key, "key:me");
  const auto plain = Prepare(Text(1));
  EXPECT_EQ(std::get<PreparedRequest>(plain).choices.front().priority, 0);
}

TEST_F(RequestBounds, OrderFieldsHaveRanges) {
  ParsedRequest request = Text(3);
  request.priority = int64_t{1} << 31;
  EXPECT_THAT(Refusal(Prepare(request)), HasSubstr("priority: must be at most 2147483647"));
  request.priority = -(int64_t{1} << 31);
  EXPECT_EQ(Refusal(Prepare(request)), "");
  for (const size_t bytes : {size_t{0}, size_t{257}}) {
    request.cache_salt = std::string(bytes, 's');
    EXPECT_THAT(Refusal(Prepare(request)), HasSubstr("cache_salt: must have 1 to 256 bytes"));
  }
  request.cache_salt.reset();
  request.fairness_key = FairnessKeyOf(std::string(256, 'k'), "");
  EXPECT_EQ(Refusal(Prepare(request)), "");
  request.fairness_key = FairnessKeyOf(std::string(257, 'k'), "");
  EXPECT_THAT(Refusal(Prepare(request)), HasSubstr("x-fairness-key: at most 256 bytes, got 257"));
}

TEST(FairnessKey, TheHeaderElseTheApiKeyElseNone) {
  EXPECT_EQ(FairnessKeyOf("", ""), "");
  EXPECT_EQ(FairnessKeyOf("team-a", "Bearer sk-1"), "key:team-a");
  const std::string first = FairnessKeyOf("", "Bearer sk-1");
  EXPECT_THAT(first, Not(HasSubstr("sk-1")));
  EXPECT_EQ(first, FairnessKeyOf("  ", "bearer  sk-1 "));
  EXPECT_NE(first, FairnessKeyOf("", "Bearer sk-2"));
  EXPECT_NE(FairnessKeyOf(first, ""), first) << "a header cannot pass for a key";
  EXPECT_EQ(FairnessKeyOf("", "Basic abc"), "");
  EXPECT_EQ(FairnessKeyOf("", "Bearer "), "");
}

TEST(Excerpt, EndsBetweenCharacters) {
  EXPECT_EQ(Excerpt("abc", 3), "abc");
  EXPECT_EQ(Excerpt("abcd", 3), "abc... (4 bytes)");
  EXPECT_EQ(Excerpt("aé", 2), "a... (3 bytes)");
  EXPECT_EQ(Excerpt("a😀", 4), "a... (5 bytes)");
  EXPECT_EQ(Excerpt(std::string(10, '\x80'), 8).size(), 5 + std::string("... (10 bytes)").size())
      << "what is no UTF-8 is cut somewhere near";
}

TEST(Errors, SayLittleOfALargeInput) {
  const std::string large(500'000, 'x');
  const std::pair<const char*, std::string> bodies[] = {
      {"not JSON", R"({"prompt":")" + large + "\x01" + R"("})"},
      {"a wrong type", R"({"prompt":"a","temperature":")" + large + R"("})"},
      {"a wrong key", R"({"prompt":"a","logit_bias":{")" + large + R"(":1}})"},
      {"a wrong list", R"({"prompt":"a","temperature":[")" + large + R"("]})"},
      {"many wrong prompts", "{\"prompt\":[\"a\"" + [] {
         std::string list;
         for (int i = 0; i < 100'000; ++i) list += ",[1.5]";
         return list;
       }() + "]}"}};
  for (const auto& [name, body] : bodies) {
    SCOPED_TRACE(name);
    const auto parsed = ParseCompletionBody(body);
    ASSERT_TRUE(std::holds_alternative<ApiError>(parsed));
    EXPECT_LT(std::get<ApiError>(parsed).status.message().size(), 8000u);
  }
  std::string chat = R"({"messages":[)";
  for (int i = 0; i < 50'000; ++i) chat += (i > 0 ? ",{}" : "{}");
  const auto parsed = ParseChatBody(chat + "]}");
  ASSERT_TRUE(std::holds_alternative<ApiError>(parsed));
  EXPECT_EQ(std::get<ApiError>(parsed).violations.size(), kMaxViolations);
  EXPECT_THAT(std::string(std::get<ApiError>(parsed).status.message()),
              HasSubstr("; and 49984 more"));
}

TEST(JsonShape, SoManyValuesAndNoMore) {
  std::string list = "[1";
  for (size_t i = 2; i < kMaxJsonValues; ++i) list += ",1";
  EXPECT_EQ(FindHostileShape(list + "]"), std::nullopt);
  EXPECT_EQ(FindHostileShape(list + ",1]"), "it has more than 2097152 values");
  EXPECT_EQ(FindHostileShape("\"" + std::string(kMaxJsonValues + 9, ',') + "\""), std::nullopt);
}

}  // namespace
}  // namespace sheaf
