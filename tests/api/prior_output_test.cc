// prior_output on both faces: what reaches the engine, what is refused, and that an answer goes on
// where the one before broke off.
#include "gmock/gmock.h"
#include "tests/api/grpc_fixture.h"
#include "tests/api/http_fixture.h"

namespace sheaf {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string Ids(const std::string& text) {
  Parsed ids = Parsed::array();
  for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
  return ids.dump();
}

class HttpPriorOutput : public HttpFixture {
 protected:
  // {"param", "message"} of a 400.
  std::pair<std::string, std::string> Refused(const std::string& path, const std::string& body) {
    const HttpAnswer answer = Post(path, body);
    EXPECT_EQ(answer.status, 400) << answer.body;
    const Parsed error = Json(answer)["error"];
    return {error.value("param", Parsed()).is_string() ? error["param"].get<std::string>() : "",
            error["message"].get<std::string>()};
  }
};

TEST_F(HttpPriorOutput, ACompletionGoesOn) {
  const std::string text = "abcdef";
  api_.engine.SetAnswer(AnswerWith(text));
  const Parsed whole =
      Json(Post("/v1/completions", R"({"prompt":"hi","logprobs":1,"return_token_ids":true})"));
  for (size_t cut = 1; cut < text.size(); ++cut) {
    const std::string body =
        R"({"prompt":"hi","logprobs":1,"return_token_ids":true,"prior_output":)" +
        Ids(text.substr(0, cut)) + "}";
    const Parsed rest = Json(Post("/v1/completions", body));
    const Parsed& choice = rest["choices"][0];
    EXPECT_EQ(choice["text"], text.substr(cut));
    EXPECT_EQ(choice["token_ids"].size(), text.size() - cut);
    EXPECT_EQ(rest["usage"], whole["usage"]) << "all of the output";
    for (const char* field : {"tokens", "token_logprobs", "text_offset"}) {
      Parsed wanted = whole["choices"][0]["logprobs"][field];
      wanted.erase(wanted.begin(), wanted.begin() + static_cast<long>(cut));
      EXPECT_EQ(choice["logprobs"][field], wanted) << field;
    }
    std::string streamed;
    const std::string stream =
        body.substr(0, body.size() - 1) +
        R"(,"stream":true,"stream_options":{"include_usage":true,"continuous_usage_stats":true}})";
    for (const Parsed& chunk : Chunks(Post("/v1/completions", stream))) {
      if (!chunk["choices"].empty()) streamed += chunk["choices"][0]["text"].get<std::string>();
      if (chunk.contains("usage") && chunk["usage"].is_object()) {
        EXPECT_GT(chunk["usage"]["completion_tokens"], cut);
      }
    }
    EXPECT_EQ(streamed, text.substr(cut));
  }
  const size_t last = api_.engine.submitted() - 1;
  EXPECT_THAT(api_.engine.request(last).prior_output, ElementsAre('a', 'b', 'c', 'd', 'e'));
}

TEST_F(HttpPriorOutput, AChatGoesOnInItsThoughtsItsTextAndItsCall) {
  api_.codec.format.tools = TagFormat::kGlm45;
  api_.codec.format.reasoning = TagFormat::kGlm45;
  const std::string output =
      "<think>Hm.</think>Well.<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>xyz</arg_value>\n"
      "</tool_call>";
  api_.engine.SetAnswer(AnswerWith(output));
  const auto ask = [&](size_t cut, bool stream) {
    std::string body =
        R"({"messages":[{"role":"user","content":"hi"}],"seed":5,"tools":[{"type":"function",)"
        R"("function":{"name":"f","parameters":{"type":"object","properties":{"a":)"
        R"({"type":"string"}}}}}])";
    if (cut > 0) body += ",\"prior_output\":" + Ids(output.substr(0, cut));
    return Post("/v1/chat/completions", body + (stream ? ",\"stream\":true}" : "}"));
  };
  const auto joined = [&](size_t cut) {
    std::string reasoning, content, arguments, id, finish;
    for (const Parsed& chunk : Chunks(ask(cut, true))) {
      const Parsed& choice = chunk["choices"][0];
      const Parsed& delta = choice["delta"];
      reasoning += delta.value("reasoning", "");
      content += delta.value("content", "");
      for (const Parsed& call : delta.value("tool_calls", Parsed::array())) {
        id += call.value("id", "");
        arguments += call["function"].value("arguments", "");
      }
      if (choice["finish_reason"].is_string()) finish = choice["finish_reason"];
    }
    return std::vector<std::string>{reasoning, content, id, arguments, finish};
  };
  const std::vector<std::string> whole = joined(0);
  EXPECT_THAT(whole,
              ElementsAre("Hm.", "Well.", HasSubstr("call_"), R"({"a":"xyz"})", "tool_calls"));
  for (size_t cut = 1; cut < output.size(); ++cut) {
    const std::vector<std::string> rest = joined(cut);
    for (size_t field = 0; field < 4; ++field) {
      EXPECT_TRUE(whole[field].ends_with(rest[field]))
          << "cut after " << cut << ": " << rest[field] << " is no end of " << whole[field];
    }
    EXPECT_EQ(rest[4], "tool_calls");
    // Whole answers: a call that has begun before goes on in this one.
    const HttpAnswer answer = ask(cut, false);
    ASSERT_EQ(answer.status, 200) << answer.body;
    const Parsed message = Json(answer)["choices"][0]["message"];
    const Parsed calls = message.value("tool_calls", Parsed::array());
    EXPECT_TRUE(whole[0].ends_with(message.value("reasoning", "")));
    if (calls.empty()) continue;
    ASSERT_EQ(calls.size(), 1u);
    EXPECT_EQ(calls[0]["id"], whole[2]);
    EXPECT_TRUE(whole[3].ends_with(calls[0]["function"]["arguments"].get<std::string>()));
  }
}

TEST_F(HttpPriorOutput, WhatIsWrongIsNamed) {
  const std::string path = "/v1/completions";
  auto refused = Refused(path, R"({"prompt":"hi","prior_output":[65,99999]})");
  EXPECT_EQ(refused.first, "prior_output[1]");
  EXPECT_THAT(refused.second, HasSubstr("token id 99999 is outside the vocabulary"));
  refused = Refused(path, R"({"prompt":"hi","prior_output":"abc"})");
  EXPECT_EQ(refused.first, "prior_output");
  refused = Refused(path, R"({"prompt":"hi","prior_output":[65,66],"max_tokens":2})");
  EXPECT_THAT(refused.second, HasSubstr("fewer tokens than max_tokens = 2, got 2"));
  refused = Refused(path, R"({"prompt":"hi","prior_output":[65],"n":2})");
  EXPECT_EQ(refused.first, "prior_output");
  EXPECT_THAT(refused.second, HasSubstr("n must be 1"));
  refused = Refused(path, R"({"prompt":["hi","ho"],"prior_output":[65]})");
  EXPECT_THAT(refused.second, HasSubstr("one prompt"));
  refused = Refused(path, R"({"prompt":"hi","prior_output":[65],"echo":true})");
  EXPECT_THAT(refused.second, HasSubstr("no echo"));
  EXPECT_EQ(api_.engine.submitted(), 0u);

  // What only the engine sees.
  api_.engine.SetSubmitError(
      absl::InvalidArgumentError("prior_output[3]: the output ends here with stop string 0"));
  refused =
      Refused("/v1/chat/completions",
              R"({"messages":[{"role":"user","content":"hi"}],"prior_output":[65,66,67,68]})");
  EXPECT_EQ(refused.first, "prior_output[3]");
  EXPECT_THAT(refused.second, HasSubstr("the output ends here with stop string 0"));
}

class GrpcPriorOutput : public GrpcFixture {};

TEST_F(GrpcPriorOutput, GoesOnAndSaysWhere) {
  api_.engine.SetAnswer(AnswerWith("abcdef"));
  v1::GenerateRequest request = Hello();
  request.mutable_sampling()->set_seed(9);
  for (const char c : {'a', 'b', 'c', 'd'}) request.add_prior_output(static_cast<uint32_t>(c));
  const Result result = Generate(request);
  ASSERT_TRUE(result.status.ok()) << result.status.error_message();
  EXPECT_EQ(result.text(), "ef");
  bool any = false;
  for (const auto& message : result.messages) {
    if (message.delta().token_ids().empty()) continue;
    if (!any) {
      EXPECT_EQ(message.delta().first_index(), 4u);
    }
    any = true;
  }
  EXPECT_TRUE(any);
  EXPECT_EQ(result.messages.back().finished().usage().completion_tokens(), 6u);
  EXPECT_THAT(api_.engine.request(0).prior_output, ElementsAre('a', 'b', 'c', 'd'));
  EXPECT_EQ(api_.engine.request(0).sampling.seed, 9u);
}

TEST_F(GrpcPriorOutput, WhatIsWrongIsAViolationOfItsPosition) {
  v1::GenerateRequest request = Hello();
  request.add_prior_output('a');
  request.add_prior_output(4000000000u);
  Result result = Generate(request);
  EXPECT_EQ(result.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(DetailOf<google::rpc::BadRequest>(result.status).field_violations(0).field(),
            "prior_output[1]");
  api_.engine.SetSubmitError(
      absl::InvalidArgumentError("prior_output[0]: the output ends here with stop token 5"));
  request.mutable_prior_output()->RemoveLast();
  result = Generate(request);
  EXPECT_EQ(DetailOf<google::rpc::BadRequest>(result.status).field_violations(0).field(),
            "prior_output[0]");
}

}  // namespace
}  // namespace sheaf
