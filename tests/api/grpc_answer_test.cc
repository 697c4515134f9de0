// From a chat's tokens to typed deltas, whatever the steps they come in.
#include "router/api/grpc/grpc_answer.h"

#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/api/api_fixture.h"

namespace sheaf {
namespace {

using testing::ElementsAre;

// What a client makes of the deltas.
struct Joined {
  std::string text, reasoning;
  struct Call {
    std::string id, name, arguments;
    bool complete = false;
  };
  std::vector<Call> calls;
  std::vector<uint32_t> ids;
  std::vector<uint32_t> logprobs;
  v1::Finished finished;

  explicit Joined(const std::vector<v1::GenerateResponse>& messages) {
    for (const auto& message : messages) {
      const v1::TokenDelta& delta = message.delta();
      const int kinds =
          !delta.text().empty() + !delta.reasoning().empty() + !delta.tool_calls().empty();
      EXPECT_LE(kinds, 1) << delta.ShortDebugString();
      EXPECT_FALSE(finished.has_usage()) << "after the end: " << message.ShortDebugString();
      text += delta.text();
      reasoning += delta.reasoning();
      ids.insert(ids.end(), delta.token_ids().begin(), delta.token_ids().end());
      for (const auto& entry : delta.logprobs()) logprobs.push_back(entry.chosen().token_id());
      for (const auto& piece : delta.tool_calls()) {
        if (piece.has_id()) {
          EXPECT_EQ(piece.index(), calls.size());
          calls.push_back({piece.id(), piece.name(), "", false});
        }
        if (piece.index() >= calls.size()) {
          ADD_FAILURE() << "no beginning: " << piece.ShortDebugString();
          continue;
        }
        EXPECT_FALSE(calls[piece.index()].complete);
        calls[piece.index()].arguments += piece.arguments_json();
        calls[piece.index()].complete = piece.complete();
      }
      if (message.has_finished()) finished = message.finished();
    }
  }
};

class GrpcAnswerTest : public testing::Test {
 protected:
  GrpcAnswerTest() {
    request_.chat.emplace();
    prepared_.output.format.tools = TagFormat::kGlm45;
    prepared_.output.format.reasoning = TagFormat::kGlm45;
    const ToolDeclaration weather = {
        "get_weather", R"({"type":"object","properties":{"days":{"type":"integer"}}})"};
    auto tools = DeclaredTools::Create({&weather, 1});
    EXPECT_TRUE(tools.ok());
    prepared_.output.tools = std::make_shared<const DeclaredTools>(*std::move(tools));
  }

  // One token a byte, with log-probabilities, cut into steps as `step` says.
  Joined Answer(
      const std::string& output, FinishReason reason,
      const std::function<bool()>& step = [] { return false; }) {
    GrpcAnswer answer(request_, prepared_, codec_);
    std::vector<v1::GenerateResponse> messages;
    std::vector<ChoiceEvent> events;
    for (const char c : output) {
      TokenEvent token = ByteToken(c);
      token.logprobs = ByteLogprobs(token.token, 1);
      events.emplace_back().what = std::move(token);
      if (step()) {
        answer.Append(events, messages);
        events.clear();
      }
    }
    GenerationEnd end;
    end.reason = reason;
    if (reason == FinishReason::kStop) end.stop_token = FakeTextCodec::kEnd;
    end.prompt_tokens = 7;
    end.completion_tokens = static_cast<int32_t>(output.size());
    end.reasoning_tokens = 4;
    events.emplace_back().what = std::move(end);
    answer.Append(events, messages);
    undeclared_ = answer.undeclared_calls();
    return Joined(messages);
  }

  static constexpr const char* kOutput =
      "<think>Two days.</think>\nLet me see.\n"
      "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Oslo \"S\"</arg_value>\n"
      "<arg_key>days</arg_key>\n<arg_value>2</arg_value>\n</tool_call>";

  FakeTextCodec codec_;
  ParsedRequest request_;
  PreparedRequest prepared_;
  int undeclared_ = 0;
};

TEST_F(GrpcAnswerTest, ThoughtsTextAndCallsAreToldApart) {
  const Joined joined = Answer(kOutput, FinishReason::kStop);
  EXPECT_EQ(joined.reasoning, "Two days.");
  EXPECT_EQ(joined.text, "Let me see.");
  ASSERT_EQ(joined.calls.size(), 1u);
  EXPECT_EQ(joined.calls[0].name, "get_weather");
  EXPECT_FALSE(joined.calls[0].id.empty());
  const auto arguments = nlohmann::json::parse(joined.calls[0].arguments);
  EXPECT_EQ(arguments, (nlohmann::json{{"city", "Oslo \"S\""}, {"days", 2}}));
  EXPECT_TRUE(joined.calls[0].complete);
  EXPECT_EQ(joined.finished.reason(), v1::FINISH_REASON_TOOL_CALLS);
  EXPECT_EQ(joined.finished.stop_token_id(), static_cast<uint32_t>(FakeTextCodec::kEnd));
  EXPECT_EQ(joined.finished.text(), "");
  EXPECT_EQ(joined.finished.usage().prompt_tokens(), 7u);
  EXPECT_EQ(joined.finished.usage().reasoning_tokens(), 9u);  // "Two days.", a token a byte
  EXPECT_EQ(undeclared_, 0);
}

TEST_F(GrpcAnswerTest, AfterAPriorOutputComesTheRest) {
  const std::string output = kOutput;
  const auto event_of = [&](size_t i) {
    TokenEvent token = ByteToken(output[i]);
    token.index = static_cast<int32_t>(i);
    return token;
  };
  GenerationEnd end;
  end.reason = FinishReason::kStop;
  const auto finish = [&](GrpcAnswer& answer, size_t from,
                          std::vector<v1::GenerateResponse>& messages) {
    std::vector<ChoiceEvent> events;
    for (size_t i = from; i < output.size(); ++i) events.emplace_back().what = event_of(i);
    events.emplace_back().what = end;
    answer.Append(events, messages);
  };
  std::vector<v1::GenerateResponse> all;
  GrpcAnswer whole(request_, prepared_, codec_);
  finish(whole, 0, all);
  const Joined wanted(all);
  for (size_t cut = 1; cut < output.size(); ++cut) {
    // The first router's deltas up to the cut, then the second one's.
    std::vector<v1::GenerateResponse> messages;
    std::vector<ChoiceEvent> events;
    PriorOutput prior;
    for (size_t i = 0; i < cut; ++i) {
      events.emplace_back().what = event_of(i);
      prior.push_back(event_of(i));
    }
    GrpcAnswer(request_, prepared_, codec_).Append(events, messages);
    const size_t first = messages.size();
    GrpcAnswer answer(request_, prepared_, codec_);
    ChoiceEvent known;
    known.what = prior;
    answer.Append({known}, messages);
    ASSERT_EQ(messages.size(), first) << "the client has it";
    finish(answer, cut, messages);
    ASSERT_EQ(messages[first].delta().first_index(), cut);
    const Joined joined(messages);
    EXPECT_EQ(joined.text, wanted.text) << "cut after " << cut;
    EXPECT_EQ(joined.reasoning, wanted.reasoning) << "cut after " << cut;
    EXPECT_EQ(joined.ids, wanted.ids);
    ASSERT_EQ(joined.calls.size(), 1u) << "cut after " << cut;
    EXPECT_EQ(joined.calls[0].id, wanted.calls[0].id);
    EXPECT_EQ(joined.calls[0].arguments, wanted.calls[0].arguments);
    EXPECT_TRUE(joined.calls[0].complete);
    EXPECT_EQ(joined.finished.reason(), v1::FINISH_REASON_TOOL_CALLS);
  }
}

TEST_F(GrpcAnswerTest, AnyStepsGiveTheSame) {
  const Joined whole = Answer(kOutput, FinishReason::kStop);
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 200; ++round) {
    const uint64_t one_in = 1 + random() % 30;
    const Joined joined =
        Answer(kOutput, FinishReason::kStop, [&] { return random() % one_in == 0; });
    EXPECT_EQ(joined.text, whole.text);
    EXPECT_EQ(joined.reasoning, whole.reasoning);
    ASSERT_EQ(joined.calls.size(), 1u);
    EXPECT_EQ(joined.calls[0].id, whole.calls[0].id);
    EXPECT_EQ(joined.calls[0].arguments, whole.calls[0].arguments);
    EXPECT_EQ(std::string(joined.ids.begin(), joined.ids.end()), kOutput);
    EXPECT_EQ(joined.logprobs, joined.ids);
  }
}

TEST_F(GrpcAnswerTest, ACallThatWasCutOffIsNotComplete) {
  const std::string cut(kOutput, std::string(kOutput).find("</arg_value>\n</tool_call>"));
  const Joined joined = Answer(cut, FinishReason::kLength);
  ASSERT_EQ(joined.calls.size(), 1u);
  EXPECT_FALSE(joined.calls[0].complete);
  EXPECT_EQ(joined.finished.reason(), v1::FINISH_REASON_LENGTH);
}

TEST_F(GrpcAnswerTest, CompleteCallsBeforeTheLimitAreNoToolCallsReason) {
  const Joined joined = Answer(std::string(kOutput) + "<tool_call>get_w", FinishReason::kLength);
  EXPECT_TRUE(joined.calls.at(0).complete);
  EXPECT_EQ(joined.finished.reason(), v1::FINISH_REASON_LENGTH);
}

TEST_F(GrpcAnswerTest, UnwantedThoughtsAreDroppedButTheirTokensStay) {
  request_.chat->include_reasoning = false;
  const Joined joined = Answer(kOutput, FinishReason::kStop);
  EXPECT_EQ(joined.reasoning, "");
  EXPECT_EQ(joined.text, "Let me see.");
  EXPECT_EQ(joined.ids.size(), std::string(kOutput).size());
  EXPECT_EQ(joined.finished.usage().reasoning_tokens(), 9u);
}

TEST_F(GrpcAnswerTest, UndeclaredCallsAreTextAndCounted) {
  const std::string call = "<tool_call>format_disk\n</tool_call>";
  const Joined joined = Answer(call, FinishReason::kStop);
  EXPECT_EQ(joined.text, call);
  EXPECT_TRUE(joined.calls.empty());
  EXPECT_EQ(joined.finished.reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(undeclared_, 1);
}

TEST_F(GrpcAnswerTest, WithoutAChatNothingIsToldApart) {
  request_.chat.reset();
  const Joined joined = Answer(kOutput, FinishReason::kStop);
  EXPECT_EQ(joined.text, kOutput);
  EXPECT_EQ(joined.finished.reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(joined.finished.usage().reasoning_tokens(), 0u);
}

TEST_F(GrpcAnswerTest, TextHeldBackToTheEnd) {
  GenerationEnd end;
  end.text = "rest";
  for (const bool chat : {true, false}) {
    if (!chat) request_.chat.reset();
    GrpcAnswer answer(request_, prepared_, codec_);
    std::vector<v1::GenerateResponse> messages;
    answer.Append({{0, end}}, messages);
    const Joined joined(messages);
    EXPECT_EQ(joined.text, chat ? "rest" : "");
    EXPECT_EQ(joined.finished.text(), chat ? "" : "rest");
  }
}

}  // namespace
}  // namespace sheaf
