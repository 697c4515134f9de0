// What a request may ask for, what it gets when it does not ask, and how a refusal reads.
#include "router/api/request/request_validation.h"

#include <cmath>
#include <functional>
#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/api/api_fixture.h"

namespace sheaf {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class RequestValidation : public testing::Test {
 protected:
  static ParsedRequest Good() {
    ParsedRequest request;
    request.prompts.emplace_back("hello");
    return request;
  }
  PreparedRequest Prepare(const ParsedRequest& request) {
    auto result = PrepareRequest(request, api_.context.validation());
    if (auto* error = std::get_if<ApiError>(&result)) {
      ADD_FAILURE() << error->status.ToString();
      return {};
    }
    return std::get<PreparedRequest>(std::move(result));
  }
  ApiError Refuse(const ParsedRequest& request) {
    auto result = PrepareRequest(request, api_.context.validation());
    if (auto* error = std::get_if<ApiError>(&result)) return *error;
    ADD_FAILURE() << "accepted";
    return {};
  }

  ApiFixture api_;
};

struct BadCase {
  const char* name;
  std::function<void(ParsedRequest&)> spoil;
  const char* field;
  const char* text;
};

const double kNan = std::numeric_limits<double>::quiet_NaN();
const double kInf = std::numeric_limits<double>::infinity();

const BadCase kBadCases[] = {
    {"no prompt", [](auto& r) { r.prompts.clear(); }, "prompt", "is required"},
    {"empty text", [](auto& r) { r.prompts = {std::string()}; }, "prompt", "must not be empty"},
    {"empty ids", [](auto& r) { r.prompts = {std::vector<int64_t>()}; }, "prompt",
     "must not be empty"},
    {"second prompt empty", [](auto& r) { r.prompts.emplace_back(std::string()); }, "prompt[1]",
     "must not be empty"},
    {"id too large",
     [](auto& r) {
       r.prompts = {std::vector<int64_t>{1, 260}};
     },
     "prompt", "token id 260 is outside the vocabulary [0, 260)"},
    {"id negative", [](auto& r) { r.prompts = {std::vector<int64_t>{-1}}; }, "prompt",
     "token id -1"},
    {"text that cannot fit", [](auto& r) { r.prompts = {std::string(512 * 256 + 1, 'x')}; },
     "prompt", "maximum context length is 512 tokens"},
    {"temperature negative", [](auto& r) { r.temperature = -0.1; }, "temperature",
     "must be in [0, inf), got -0.1"},
    {"temperature NaN", [](auto& r) { r.temperature = kNan; }, "temperature", "got nan"},
    {"temperature infinite", [](auto& r) { r.temperature = kInf; }, "temperature", "got inf"},
    {"temperature beyond float", [](auto& r) { r.temperature = 1e300; }, "temperature", "[0, inf)"},
    {"top_p zero", [](auto& r) { r.top_p = 0; }, "top_p", "must be in (0, 1], got 0"},
    {"top_p above one", [](auto& r) { r.top_p = 1.01; }, "top_p", "must be in (0, 1]"},
    {"top_p NaN", [](auto& r) { r.top_p = kNan; }, "top_p", "got nan"},
    {"min_p negative", [](auto& r) { r.min_p = -0.1; }, "min_p", "must be in [0, 1]"},
    {"min_p above one", [](auto& r) { r.min_p = 2; }, "min_p", "must be in [0, 1]"},
    {"top_k below -1", [](auto& r) { r.top_k = -2; }, "top_k", "at least -1"},
    {"top_k huge", [](auto& r) { r.top_k = int64_t{1} << 40; }, "top_k", "at most 2147483647"},
    {"repetition_penalty zero", [](auto& r) { r.repetition_penalty = 0; }, "repetition_penalty",
     "(0, inf)"},
    {"frequency_penalty", [](auto& r) { r.frequency_penalty = 2.5; }, "frequency_penalty",
     "[-2, 2]"},
    {"presence_penalty NaN", [](auto& r) { r.presence_penalty = kNan; }, "presence_penalty",
     "[-2, 2]"},
    {"n zero", [](auto& r) { r.n = 0; }, "n", "at least 1, got 0"},
    {"n huge", [](auto& r) { r.n = int64_t{1} << 62; }, "n", "at most 128"},
    {"too many choices",
     [](auto& r) {
       r.prompts.resize(9, std::string("x"));
       r.n = 128;
     },
     "prompt", "at most 1024 choices a request, got 9 prompts x n = 128"},
    {"max_tokens zero", [](auto& r) { r.max_tokens = 0; }, "max_tokens", "at least 1, got 0"},
    {"max_tokens negative", [](auto& r) { r.max_tokens = -5; }, "max_tokens", "at least 1, got -5"},
    {"min_tokens negative", [](auto& r) { r.min_tokens = -1; }, "min_tokens", "at least 0"},
    {"min_tokens above max_tokens",
     [](auto& r) {
       r.max_tokens = 4;
       r.min_tokens = 5;
     },
     "min_tokens", "at most 4, got 5"},
    {"min_tokens above the default", [](auto& r) { r.min_tokens = 17; }, "min_tokens",
     "max_tokens = 16, got 17"},
    {"logprobs above the limit", [](auto& r) { r.logprobs = 21; }, "logprobs",
     "at most 20, got 21"},
    {"logprobs whole vocabulary", [](auto& r) { r.logprobs = -1; }, "logprobs",
     "not allowed here: at most 20"},
    {"logprobs negative", [](auto& r) { r.logprobs = -2; }, "logprobs", "at least 0, got -2"},
    {"prompt_logprobs above the limit", [](auto& r) { r.prompt_logprobs = 1000000; },
     "prompt_logprobs", "at most 20"},
    {"stop empty",
     [](auto& r) {
       r.stop = {"a", ""};
     },
     "stop", "must not be empty"},
    {"stop too many", [](auto& r) { r.stop.resize(17, "x"); }, "stop",
     "at most 16 entries, got 17"},
    {"stop too long", [](auto& r) { r.stop = {std::string(1025, 'x')}; }, "stop",
     "at most 1024 bytes, got 1025"},
    {"stop id outside", [](auto& r) { r.stop_token_ids = {300}; }, "stop_token_ids",
     "token id 300"},
    {"stop ids too many", [](auto& r) { r.stop_token_ids.resize(129, 1); }, "stop_token_ids",
     "at most 128"},
    {"bias id outside",
     [](auto& r) {
       r.logit_bias = {{260, 1.0}};
     },
     "logit_bias", "token id 260"},
    {"bias too large",
     [](auto& r) {
       r.logit_bias = {{1, 100.5}};
     },
     "logit_bias", "[-100, 100], got 100.5 for token 1"},
    {"bias NaN",
     [](auto& r) {
       r.logit_bias = {{1, kNan}};
     },
     "logit_bias", "[-100, 100]"},
    {"allowed id outside", [](auto& r) { r.allowed_token_ids = {-3}; }, "allowed_token_ids",
     "token id -3"},
    {"request_id too long", [](auto& r) { r.request_id = std::string(257, 'x'); }, "request_id",
     "at most 256 bytes"},
    {"context too long", [](auto& r) { r.prompts = {std::string(600, 'x')}; }, "prompt",
     "maximum context length is 512 tokens. However, you requested 602 tokens (601 in the prompt, "
     "1 in the completion)"},
    {"context and max_tokens too long", [](auto& r) { r.max_tokens = 507; }, "prompt",
     "512 tokens. However, you requested 513 tokens (6 in the prompt, 507 in the completion)"},
    {"max_tokens huge", [](auto& r) { r.max_tokens = std::numeric_limits<int64_t>::max(); },
     "prompt", "maximum context length is 512"},
    {"messages refused by the template",
     [](auto& r) {
       r.prompts.clear();
       r.chat = ChatInput{R"([{"role":"robot"}])"};
     },
     "messages", "robot is unknown"},
};

TEST_F(RequestValidation, NamesTheFieldAndWhatIsWrong) {
  for (const BadCase& bad : kBadCases) {
    SCOPED_TRACE(bad.name);
    ParsedRequest request = Good();
    bad.spoil(request);
    const ApiError error = Refuse(request);
    EXPECT_EQ(error.status.code(), absl::StatusCode::kInvalidArgument);
    ASSERT_EQ(error.violations.size(), 1u) << error.status;
    EXPECT_EQ(error.violations[0].field, bad.field);
    EXPECT_THAT(error.violations[0].description, HasSubstr(bad.text));
  }
  EXPECT_EQ(api_.engine.submitted(), 0u);
}

TEST_F(RequestValidation, NamesAllWrongFieldsAtOnce) {
  ParsedRequest request = Good();
  request.temperature = -1;
  request.top_p = 7;
  request.n = 0;
  const ApiError error = Refuse(request);
  ASSERT_EQ(error.violations.size(), 3u);
  EXPECT_THAT(std::string(error.status.message()), HasSubstr("temperature: must be"));
  EXPECT_THAT(std::string(error.status.message()), HasSubstr("; n: must be"));
}

TEST_F(RequestValidation, UnknownModelIsNotFound) {
  ParsedRequest request = Good();
  request.model = "gpt";
  EXPECT_EQ(Refuse(request).status.code(), absl::StatusCode::kNotFound);
  request.model = "alias";
  EXPECT_EQ(Prepare(request).choices.size(), 1u);
}

TEST_F(RequestValidation, ChatNeedsATemplate) {
  const FakeTextCodec without(false);
  ParsedRequest request;
  request.chat = ChatInput{R"([{"role":"user","content":"x"}])"};
  const auto result = PrepareRequest(
      request, {api_.model, api_.limits, api_.settings, without, 512, api_.context.random});
  ASSERT_TRUE(std::holds_alternative<ApiError>(result));
  EXPECT_THAT(std::get<ApiError>(result).violations[0].description, HasSubstr("no chat template"));
}

TEST_F(RequestValidation, WholeVocabularyWhereAllowed) {
  api_.limits.max_logprobs = -1;
  ParsedRequest request = Good();
  request.logprobs = -1;
  EXPECT_EQ(Prepare(request).choices[0].logprobs, -1);
  request.logprobs = 260;
  EXPECT_EQ(Prepare(request).choices[0].logprobs, 260);
  request.logprobs = 261;
  EXPECT_EQ(Refuse(request).violations[0].field, "logprobs");
}

TEST_F(RequestValidation, DefaultsOfTheServer) {
  const GenerationRequest choice = Prepare(Good()).choices.at(0);
  EXPECT_EQ(choice.prompt.size(), 6u);  // with the prefix token
  EXPECT_EQ(choice.sampling.temperature, 1.0f);
  EXPECT_EQ(choice.sampling.top_p, 1.0f);
  EXPECT_EQ(choice.sampling.top_k, 0);
  EXPECT_EQ(choice.stop.max_tokens, 16);
  EXPECT_FALSE(choice.logprobs.has_value());
  EXPECT_TRUE(choice.skip_special_tokens);
}

TEST_F(RequestValidation, CheckpointDefaultsUnlessTheClientSaysOtherwise) {
  api_.model.config.generation.temperature = 0.6f;
  api_.model.config.generation.top_p = 0.95f;
  api_.model.config.generation.top_k = 40;
  ParsedRequest request = Good();
  request.top_p = 0.5;
  const GenerationRequest choice = Prepare(request).choices.at(0);
  EXPECT_EQ(choice.sampling.temperature, 0.6f);
  EXPECT_EQ(choice.sampling.top_p, 0.5f);
  EXPECT_EQ(choice.sampling.top_k, 40);
}

TEST_F(RequestValidation, ZeroIsAValueAndNotAbsence) {
  api_.model.config.generation.temperature = 0.6f;
  ParsedRequest request = Good();
  request.temperature = 0;
  request.seed = 0;
  const GenerationRequest choice = Prepare(request).choices.at(0);
  EXPECT_EQ(choice.sampling.temperature, 0.0f);
  EXPECT_EQ(choice.sampling.seed, 0u);
}

TEST_F(RequestValidation, ChatGetsTheRestOfTheContext) {
  ParsedRequest request;
  request.chat = ChatInput{R"([{"role":"user","content":"hi"}])"};
  const GenerationRequest choice = Prepare(request).choices.at(0);
  const std::string rendered(choice.prompt.begin(), choice.prompt.end());
  EXPECT_EQ(rendered, "user: hi\nassistant: ");  // without prefix token: the template has its own
  EXPECT_EQ(choice.stop.max_tokens, 512 - static_cast<int>(choice.prompt.size()));
  api_.model.config.generation.max_new_tokens = 100;
  EXPECT_EQ(Prepare(request).choices.at(0).stop.max_tokens, 100);
}

TEST_F(RequestValidation, DefaultLengthShrinksToWhatFits) {
  ParsedRequest request = Good();
  request.prompts = {std::vector<int64_t>(510, 1)};
  EXPECT_EQ(Prepare(request).choices.at(0).stop.max_tokens, 2);
}

TEST_F(RequestValidation, SamplesHaveSeedsOfTheirOwn) {
  ParsedRequest request = Good();
  request.prompts.emplace_back("second");
  request.n = 2;
  request.seed = 7;
  const PreparedRequest prepared = Prepare(request);
  std::vector<uint64_t> seeds;
  for (const auto& choice : prepared.choices) seeds.push_back(choice.sampling.seed);
  EXPECT_THAT(seeds, ElementsAre(7, 8, 7, 8));
  EXPECT_EQ(prepared.choices[2].prompt, prepared.prompts[1].tokens);
}

TEST_F(RequestValidation, RequestsWithoutSeedDiffer) {
  EXPECT_NE(Prepare(Good()).choices[0].sampling.seed, Prepare(Good()).choices[0].sampling.seed);
}

TEST_F(RequestValidation, EchoOfThePromptAlone) {
  ParsedRequest request = Good();
  request.prompts = {std::vector<int64_t>{'a', 'b'}};
  request.echo = true;
  request.max_tokens = 0;
  const PreparedRequest prepared = Prepare(request);
  EXPECT_TRUE(prepared.drop_output);
  EXPECT_EQ(prepared.choices[0].stop.max_tokens, 1);
  EXPECT_EQ(prepared.prompts[0].text, "ab");
}

TEST_F(RequestValidation, PromptsThatBeginTwiceAreCounted) {
  constexpr int64_t kPrefix = FakeTextCodec::kPrefix;
  ParsedRequest request = Good();
  EXPECT_EQ(Prepare(request).doubled_prefixes, 0);
  request.prompts = {std::vector<int64_t>{kPrefix, kPrefix, 'a'},
                     std::vector<int64_t>{kPrefix, 'a', kPrefix},
                     std::vector<int64_t>{kPrefix, kPrefix}, std::vector<int64_t>{kPrefix}};
  EXPECT_EQ(Prepare(request).doubled_prefixes, 2);
}

TEST_F(RequestValidation, AnEffortThatIsNotNoneIsTheTemplates) {
  for (const auto& [effort, arguments] : std::initializer_list<std::pair<const char*, const char*>>{
           {"high", "{\"reasoning_effort\":\"high\"}"},
           {"max", "{\"reasoning_effort\":\"max\"}"},
           {"none", "{\"enable_thinking\":false,\"reasoning_effort\":\"none\"}"}}) {
    ParsedRequest request;
    request.chat.emplace();
    request.chat->messages_json = R"([{"role": "user", "content": "hi"}])";
    request.chat->reasoning_effort = effort;
    EXPECT_THAT(Prepare(request).prompts[0].text, HasSubstr(arguments)) << effort;
  }
}

}  // namespace
}  // namespace sheaf
