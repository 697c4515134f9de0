// From sheaf.v1 requests to ParsedRequest: every field of a chat, tools and constraints.
#include "router/api/grpc/grpc_request.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace sheaf {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

ParsedRequest Parse(const v1::GenerateRequest& message) {
  auto parsed = ParseGenerateRequest(message);
  if (const auto* error = std::get_if<ApiError>(&parsed)) {
    ADD_FAILURE() << error->status;
    return {};
  }
  return std::get<ParsedRequest>(std::move(parsed));
}

std::vector<FieldViolation> Violations(const v1::GenerateRequest& message) {
  const auto parsed = ParseGenerateRequest(message);
  const auto* error = std::get_if<ApiError>(&parsed);
  if (error == nullptr) return {};
  EXPECT_TRUE(absl::IsInvalidArgument(error->status));
  return error->violations;
}

TEST(GrpcRequest, MessagesHaveTheOpenAiShape) {
  v1::GenerateRequest request;
  auto* user = request.mutable_chat()->add_messages();
  user->set_role("user");
  user->set_content("Weather in \"Ålesund\"?");
  auto* assistant = request.mutable_chat()->add_messages();
  assistant->set_role("assistant");
  assistant->set_reasoning_content("I must ask.");
  auto* call = assistant->add_tool_calls();
  call->set_id("call_1");
  call->set_name("get_weather");
  call->set_arguments_json(R"({"city": "Ålesund"})");
  assistant->add_tool_calls()->set_name("now");
  auto* tool = request.mutable_chat()->add_messages();
  tool->set_role("tool");
  tool->set_content("rain");
  tool->set_tool_call_id("call_1");

  const json expected = {
      {{"role", "user"}, {"content", "Weather in \"Ålesund\"?"}},
      {{"role", "assistant"},
       {"content", ""},
       {"reasoning_content", "I must ask."},
       {"tool_calls",
        {{{"id", "call_1"},
          {"type", "function"},
          {"function", {{"name", "get_weather"}, {"arguments", R"({"city": "Ålesund"})"}}}},
         {{"type", "function"}, {"function", {{"name", "now"}, {"arguments", "{}"}}}}}}},
      {{"role", "tool"}, {"content", "rain"}, {"tool_call_id", "call_1"}}};
  EXPECT_EQ(json::parse(Parse(request).chat->messages_json), expected);
}

TEST(GrpcRequest, ToolsAreDefinedAsTemplatesKnowThem) {
  v1::GenerateRequest request;
  auto* weather = request.mutable_chat()->add_tools();
  weather->set_name("get_weather");
  weather->set_description("Tells the weather.");
  // Keys out of order: the model sees them as the client wrote them.
  weather->set_parameters_json(R"( {"type":"object", "properties":{"z":{},"a":{}}} )");
  weather->set_strict(true);
  request.mutable_chat()->add_tools()->set_name("now");

  const auto tools = Parse(request).chat->tools;
  ASSERT_EQ(tools.size(), 2u);
  EXPECT_EQ(tools[0].name, "get_weather");
  EXPECT_EQ(tools[0].definition_json,
            R"({"type":"function","function":{"name":"get_weather","description":)"
            R"("Tells the weather.","parameters":{"type":"object","properties":{"z":{},"a":{}}},)"
            R"("strict":true}})");
  EXPECT_EQ(tools[0].parameters_json, weather->parameters_json());
  EXPECT_TRUE(tools[0].strict);
  EXPECT_EQ(tools[1].definition_json, R"({"type":"function","function":{"name":"now"}})");
  EXPECT_EQ(tools[1].parameters_json, "");
  EXPECT_FALSE(tools[1].strict);
}

TEST(GrpcRequest, ParametersThatAreNoObjectAreNamed) {
  v1::GenerateRequest request;
  request.mutable_chat()->add_tools()->set_name("good");
  for (const std::string& bad : {std::string("{\"a\": "), std::string("[1]"), std::string(""),
                                 std::string(100, '[') + std::string(100, ']')}) {
    SCOPED_TRACE(bad);
    auto* tool = request.mutable_chat()->add_tools();
    tool->set_name("bad");
    tool->set_parameters_json(bad);
    const auto violations = Violations(request);
    ASSERT_EQ(violations.size(), 1u);
    EXPECT_EQ(violations[0].field, "tools[1].function.parameters");
    EXPECT_THAT(violations[0].description, HasSubstr("is not a valid JSON object"));
    request.mutable_chat()->mutable_tools()->RemoveLast();
  }
}

TEST(GrpcRequest, ToolChoice) {
  v1::GenerateRequest request;
  request.mutable_chat();
  EXPECT_FALSE(Parse(request).chat->tool_choice.has_value());
  auto* choice = request.mutable_chat()->mutable_tool_choice();
  using Mode = ToolChoice::Mode;
  EXPECT_EQ(Parse(request).chat->tool_choice->mode, Mode::kAuto);
  choice->set_mode(v1::ToolChoice::MODE_NONE);
  EXPECT_EQ(Parse(request).chat->tool_choice->mode, Mode::kNone);
  choice->set_mode(static_cast<v1::ToolChoice::Mode>(77));  // of a later version
  EXPECT_EQ(Parse(request).chat->tool_choice->mode, Mode::kAuto);

  choice->set_mode(v1::ToolChoice::MODE_REQUIRED);
  EXPECT_FALSE(Parse(request).chat->tool_choice->named);
  choice->add_allowed("f");
  const ToolChoice named = *Parse(request).chat->tool_choice;
  EXPECT_EQ(named.mode, Mode::kRequired);
  EXPECT_TRUE(named.named);
  EXPECT_THAT(named.allowed, ElementsAre("f"));
  choice->add_allowed("g");
  EXPECT_FALSE(Parse(request).chat->tool_choice->named);
  choice->set_mode(v1::ToolChoice::MODE_AUTO);
  choice->mutable_allowed()->RemoveLast();
  EXPECT_FALSE(Parse(request).chat->tool_choice->named);
}

TEST(GrpcRequest, ChatOptions) {
  v1::GenerateRequest request;
  request.mutable_chat();
  const ChatInput defaults = *Parse(request).chat;
  EXPECT_EQ(defaults.messages_json, "[]");
  EXPECT_TRUE(defaults.parallel_tool_calls);
  EXPECT_TRUE(defaults.include_reasoning);
  EXPECT_FALSE(defaults.continue_final_message);
  EXPECT_FALSE(defaults.add_generation_prompt.has_value());
  EXPECT_FALSE(defaults.enable_thinking.has_value());
  EXPECT_FALSE(defaults.reasoning_effort.has_value());
  EXPECT_FALSE(defaults.thinking_token_budget.has_value());

  auto* chat = request.mutable_chat();
  chat->set_parallel_tool_calls(false);
  chat->set_continue_final_message(true);
  chat->set_add_generation_prompt(false);
  chat->set_enable_thinking(false);
  chat->set_reasoning_effort("low");
  chat->set_thinking_token_budget(0);
  chat->set_template_arguments_json("{\"a\":1}");
  request.mutable_output()->set_include_reasoning(false);
  const ChatInput set = *Parse(request).chat;
  EXPECT_FALSE(set.parallel_tool_calls);
  EXPECT_FALSE(set.include_reasoning);
  EXPECT_TRUE(set.continue_final_message);
  EXPECT_EQ(set.add_generation_prompt, false);
  EXPECT_EQ(set.enable_thinking, false);
  EXPECT_EQ(set.reasoning_effort, "low");
  EXPECT_EQ(set.thinking_token_budget, 0);
  EXPECT_EQ(set.template_arguments_json, "{\"a\":1}");
}

TEST(GrpcRequest, BadWords) {
  v1::GenerateRequest request;
  request.mutable_sampling()->add_bad_words("red");
  request.mutable_sampling()->add_bad_words("dark blue");
  EXPECT_THAT(Parse(request).bad_words, ElementsAre("red", "dark blue"));
}

TEST(GrpcRequest, EveryKindOfConstraint) {
  const auto constraint = [](auto set) {
    v1::GenerateRequest request;
    set(*request.mutable_constraint());
    return *Parse(request).constraint;
  };
  auto got = constraint([](v1::OutputConstraint& c) { c.set_json_schema("{}"); });
  EXPECT_EQ(got.grammar.kind, GrammarKind::kJsonSchema);
  EXPECT_EQ(got.grammar.text, "{}");
  EXPECT_EQ(got.field, "constraint");
  EXPECT_FALSE(got.any_whitespace.has_value());
  got = constraint([](v1::OutputConstraint& c) {
    c.set_json_object(true);
    c.set_any_whitespace(true);
  });
  EXPECT_EQ(got.grammar.kind, GrammarKind::kJsonObject);
  EXPECT_EQ(got.any_whitespace, true);
  got = constraint([](v1::OutputConstraint& c) { c.set_regex("a+"); });
  EXPECT_EQ(got.grammar.kind, GrammarKind::kRegex);
  EXPECT_EQ(got.grammar.text, "a+");
  got = constraint([](v1::OutputConstraint& c) {
    c.mutable_choice()->add_texts("yes");
    c.mutable_choice()->add_texts("\"no\"");
  });
  EXPECT_EQ(got.grammar.kind, GrammarKind::kChoice);
  EXPECT_EQ(got.grammar.text, R"(["yes","\"no\""])");
  got = constraint([](v1::OutputConstraint& c) { c.mutable_choice(); });
  EXPECT_EQ(got.grammar.text, "[]");
  got = constraint([](v1::OutputConstraint& c) { c.set_lark("start: \"a\""); });
  EXPECT_EQ(got.grammar.kind, GrammarKind::kLark);
  EXPECT_EQ(got.grammar.text, "start: \"a\"");
  got = constraint([](v1::OutputConstraint& c) { c.set_structural_tag_json("{\"x\":1}"); });
  EXPECT_EQ(got.grammar.kind, GrammarKind::kStructuralTag);
  EXPECT_EQ(got.grammar.text, "{\"x\":1}");
}

TEST(GrpcRequest, ConstraintsThatSayNothing) {
  v1::GenerateRequest request;
  EXPECT_FALSE(Parse(request).constraint.has_value());
  request.mutable_constraint();
  EXPECT_EQ(Violations(request).at(0).field, "constraint");
  request.mutable_constraint()->set_json_object(false);
  EXPECT_EQ(Violations(request).at(0).field, "constraint.json_object");
}

TEST(GrpcRequest, TokenizeTakesTheSameChat) {
  v1::TokenizeRequest request;
  auto* tool = request.mutable_chat()->add_tools();
  tool->set_name("f");
  auto parsed = ParseTokenizeRequest(request);
  ASSERT_TRUE(std::holds_alternative<ParsedRequest>(parsed));
  EXPECT_EQ(std::get<ParsedRequest>(parsed).chat->tools.at(0).name, "f");
  tool->set_parameters_json("7");
  parsed = ParseTokenizeRequest(request);
  ASSERT_TRUE(std::holds_alternative<ApiError>(parsed));
  EXPECT_EQ(std::get<ApiError>(parsed).violations.at(0).field, "tools[0].function.parameters");
}

}  // namespace
}  // namespace sheaf
