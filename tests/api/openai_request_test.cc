// Reading OpenAI bodies: every prompt form, wrong types, and what is accepted without a meaning.
#include "router/api/openai/openai_request.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace sheaf {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

OpenAiRequest Completion(std::string_view body) {
  auto result = ParseCompletionBody(body);
  if (auto* error = std::get_if<ApiError>(&result)) {
    ADD_FAILURE() << error->status;
    return {};
  }
  return std::get<OpenAiRequest>(std::move(result));
}

template <typename T>
ApiError ErrorOf(ApiResult<T> result) {
  if (auto* error = std::get_if<ApiError>(&result)) return *error;
  ADD_FAILURE() << "accepted";
  return {};
}

TEST(OpenAiRequest, PromptForms) {
  using Ids = std::vector<int64_t>;
  EXPECT_THAT(Completion(R"({"prompt":"a"})").request.prompts, ElementsAre(PromptInput("a")));
  EXPECT_THAT(Completion(R"({"prompt":["a","b"]})").request.prompts,
              ElementsAre(PromptInput("a"), PromptInput("b")));
  EXPECT_THAT(Completion(R"({"prompt":[1,2]})").request.prompts,
              ElementsAre(PromptInput(Ids{1, 2})));
  EXPECT_THAT(Completion(R"({"prompt":[[1,2],[3]]})").request.prompts,
              ElementsAre(PromptInput(Ids{1, 2}), PromptInput(Ids{3})));
  EXPECT_TRUE(Completion(R"({})").request.prompts.empty());
}

TEST(OpenAiRequest, EveryFieldArrives) {
  const OpenAiRequest parsed =
      Completion(R"({"prompt":"p","model":"m","temperature":0,"top_p":0.5,"min_p":0.1,
      "top_k":3,"repetition_penalty":1.1,"frequency_penalty":0.2,"presence_penalty":-0.3,"seed":-2,
      "logit_bias":{"12":-100,"13":1.5},"n":2,"max_tokens":9,"min_tokens":1,"stop":"x",
      "stop_token_ids":[4],      "ignore_eos":true,"include_stop_str_in_output":true,"skip_special_tokens":false,
      "add_special_tokens":false,      "logprobs":3,"prompt_logprobs":null,"echo":true,"stream":true,"return_token_ids":true,
      "return_tokens_as_token_ids":true,
      "stream_options":{"include_usage":true,"continuous_usage_stats":true}})");
  const ParsedRequest& request = parsed.request;
  EXPECT_EQ(request.model, "m");
  EXPECT_EQ(request.temperature, 0.0);
  EXPECT_EQ(request.top_p, 0.5);
  EXPECT_EQ(request.min_p, 0.1);
  EXPECT_EQ(request.top_k, 3);
  EXPECT_EQ(request.repetition_penalty, 1.1);
  EXPECT_EQ(request.frequency_penalty, 0.2);
  EXPECT_EQ(request.presence_penalty, -0.3);
  EXPECT_EQ(request.seed, static_cast<uint64_t>(-2));
  EXPECT_THAT(request.logit_bias, ElementsAre(std::pair(12, -100.0), std::pair(13, 1.5)));
  EXPECT_EQ(request.n, 2);
  EXPECT_EQ(request.max_tokens, 9);
  EXPECT_EQ(request.min_tokens, 1);
  EXPECT_THAT(request.stop, ElementsAre("x"));
  EXPECT_THAT(request.stop_token_ids, ElementsAre(4));
  EXPECT_TRUE(request.ignore_eos && request.include_stop_string && request.echo);
  EXPECT_FALSE(request.skip_special_tokens);
  EXPECT_EQ(request.add_special_tokens, false);
  EXPECT_EQ(request.logprobs, 3);
  EXPECT_EQ(request.prompt_logprobs, 3);  // for the echoed prompt
  EXPECT_FALSE(parsed.show_prompt_logprobs);
  EXPECT_TRUE(parsed.stream && parsed.include_usage && parsed.continuous_usage_stats);
  EXPECT_TRUE(parsed.return_token_ids && parsed.return_tokens_as_token_ids);
  EXPECT_TRUE(parsed.unknown_fields.empty());
}

TEST(OpenAiRequest, UnknownFieldsAreAcceptedAndNamed) {
  EXPECT_THAT(
      Completion(R"({"prompt":"p","dry_multiplier":1,"user":"u","zzz":[1]})").unknown_fields,
      ElementsAre("dry_multiplier", "zzz"));
}

TEST(OpenAiRequest, SeedMinusOneIsNoSeed) {
  EXPECT_FALSE(Completion(R"({"prompt":"p","seed":-1})").request.seed.has_value());
}

TEST(OpenAiRequest, WrongTypesNameTheField) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"prompt":7})", "prompt"},
      {R"({"prompt":{}})", "prompt"},
      {R"({"prompt":[1,"a"]})", "prompt"},
      {R"({"prompt":["a",1]})", "prompt[1]"},
      {R"({"prompt":[[1],[1.5]]})", "prompt[1]"},
      {R"({"prompt":[true]})", "prompt[0]"},
      {R"({"prompt":[1,99999999999999999999]})", "prompt"},
      {R"({"prompt":"p","temperature":"hot"})", "temperature"},
      {R"({"prompt":"p","temperature":true})", "temperature"},
      {R"({"prompt":"p","n":1.5})", "n"},
      {R"({"prompt":"p","n":"one"})", "n"},
      {R"({"prompt":"p","use_beam_search":true})", "use_beam_search"},
      {R"({"prompt":"p","prompt_embeds":"AAAA"})", "prompt_embeds"},
      {R"({"prompt":"p","max_tokens":1e300})", "max_tokens"},
      {R"({"prompt":"p","seed":18446744073709551615})", "seed"},
      {R"({"prompt":"p","stop":[1]})", "stop"},
      {R"({"prompt":"p","stop":{}})", "stop"},
      {R"({"prompt":"p","stop_token_ids":"5"})", "stop_token_ids"},
      {R"({"prompt":"p","logit_bias":[1]})", "logit_bias"},
      {R"({"prompt":"p","logit_bias":{"a":1}})", "logit_bias"},
      {R"({"prompt":"p","stream":2})", "stream"},
      {R"({"prompt":"p","stream_options":true})", "stream_options"},
      {R"({"prompt":"p","stream_options":{"include_usage":2}})", "include_usage"},
      {R"({"prompt":"p","model":1})", "model"},
      {R"({"prompt":"p","suffix":"x"})", "suffix"},
      {R"({"prompt":"p","best_of":2})", "best_of"},
      {R"({"prompt":"p","stream":true,"prompt_logprobs":1})", "prompt_logprobs"},
  };
  for (const auto& [body, field] : cases) {
    SCOPED_TRACE(body);
    const ApiError error = ErrorOf(ParseCompletionBody(body));
    EXPECT_EQ(error.status.code(), absl::StatusCode::kInvalidArgument);
    ASSERT_EQ(error.violations.size(), 1u) << error.status;
    EXPECT_EQ(error.violations[0].field, field);
  }
}

TEST(OpenAiRequest, WhatIsNoJsonObject) {
  std::string deep(100000, '[');
  std::string many_keys = "{\"prompt\":\"p\"";
  for (int i = 0; i < 5000; ++i) many_keys += ",\"k" + std::to_string(i) + "\":1";
  many_keys += "}";
  const std::string bodies[] = {"",
                                "{",
                                "[]",
                                "null",
                                "{\"prompt\":}",
                                "{\"prompt\":\"\xff\"}",
                                "{\"prompt\":\"p\",\"temperature\":NaN}",
                                "{\"prompt\":\"p\",\"top_p\":1e999}",
                                deep,
                                many_keys};
  for (const std::string& body : bodies) {
    SCOPED_TRACE(body.substr(0, 40));
    const ApiError error = ErrorOf(ParseCompletionBody(body));
    EXPECT_THAT(std::string(error.status.message()),
                HasSubstr("the body is not a valid JSON object"));
  }
}

TEST(OpenAiRequest, Chat) {
  auto result =
      ParseChatBody(R"({"messages":[{"role":"user","content":"hi","name":"n"}],"max_tokens":3,
      "max_completion_tokens":5,"logprobs":true,"top_logprobs":2,"tools":[],"tool_choice":"none",
      "response_format":{"type":"text"},"chat_template_kwargs":{"enable_thinking":false}})");
  ASSERT_TRUE(std::holds_alternative<OpenAiRequest>(result));
  const ParsedRequest& request = std::get<OpenAiRequest>(result).request;
  EXPECT_EQ(request.chat->messages_json, R"([{"role":"user","content":"hi","name":"n"}])");
  EXPECT_EQ(request.chat->template_arguments_json, R"({"enable_thinking":false})");
  EXPECT_EQ(request.max_tokens, 5);
  EXPECT_EQ(request.logprobs, 2);
}

TEST(OpenAiRequest, ChatRefusals) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({})", "messages"},
      {R"({"messages":[]})", "messages"},
      {R"({"messages":"hi"})", "messages"},
      {R"({"messages":["hi"]})", "messages[0]"},
      {R"({"messages":[{"content":"x"}]})", "messages[0].role"},
      {R"({"messages":[{"role":"user","content":"x"}],"tools":[{"type":"function"}]})",
       "tools[0].function"},
      {R"({"messages":[{"role":"user","content":"x"}],"top_logprobs":3})", "top_logprobs"},
      {R"({"messages":[{"role":"user","content":"x"}],"response_format":{"type":"xml"}})",
       "response_format.type"},
      {R"({"messages":[{"role":"user","content":"x"}],"chat_template_kwargs":[1]})",
       "chat_template_kwargs"},
  };
  for (const auto& [body, field] : cases) {
    SCOPED_TRACE(body);
    const ApiError error = ErrorOf(ParseChatBody(body));
    ASSERT_EQ(error.violations.size(), 1u) << error.status;
    EXPECT_EQ(error.violations[0].field, field);
  }
}

}  // namespace
}  // namespace sheaf
