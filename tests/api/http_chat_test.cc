// /v1/chat/completions as clients see it.
#include <latch>

#include "gmock/gmock.h"
#include "tests/api/http_fixture.h"

namespace sheaf {
namespace {

using testing::HasSubstr;

class HttpChat : public HttpFixture {};

constexpr const char* kChat = "/v1/chat/completions";
// A body with the fields of `more`.
std::string Hi(const std::string& more = "") {
  return R"({"messages":[{"role":"user","content":"hi"}])" + (more.empty() ? "" : "," + more) + "}";
}

TEST_F(HttpChat, WholeAnswer) {
  api_.engine.SetAnswer(AnswerWith("abc"));
  const HttpAnswer answer = Post(kChat, Hi());
  ASSERT_EQ(answer.status, 200) << answer.body;
  const Parsed json = Json(answer);
  EXPECT_EQ(json["object"], "chat.completion");
  EXPECT_EQ(json["id"].get<std::string>().rfind("chatcmpl-", 0), 0u);
  EXPECT_EQ(json["choices"][0]["message"]["role"], "assistant");
  EXPECT_EQ(json["choices"][0]["message"]["content"], "abc");
  EXPECT_EQ(json["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(json["usage"]["prompt_tokens"], 20);
  EXPECT_EQ(json["usage"]["total_tokens"], 23);
  const GenerationRequest request = api_.engine.request(0);
  EXPECT_EQ(std::string(request.prompt.begin(), request.prompt.end()), "user: hi\nassistant: ");
}

TEST_F(HttpChat, TemplateArgumentsReachTheTemplate) {
  api_.engine.SetAnswer(AnswerWith("a"));
  ASSERT_EQ(Post(kChat, Hi(R"("chat_template_kwargs":{"enable_thinking":false})")).status, 200);
  const GenerationRequest request = api_.engine.request(0);
  EXPECT_THAT(std::string(request.prompt.begin(), request.prompt.end()),
              HasSubstr(R"({"enable_thinking":false})"));
}

TEST_F(HttpChat, Logprobs) {
  api_.engine.SetAnswer(AnswerWith("\xE4"));
  Parsed content = Json(
      Post(kChat, Hi(R"("logprobs":true,"top_logprobs":2)")))["choices"][0]["logprobs"]["content"];
  ASSERT_EQ(content.size(), 1u);
  EXPECT_EQ(content[0]["token"], "\xEF\xBF\xBD");
  EXPECT_EQ(content[0]["bytes"], Parsed({0xE4}));  // what the token really is
  EXPECT_EQ(content[0]["logprob"], -0.5);
  EXPECT_EQ(content[0]["top_logprobs"].size(), 2u);
  EXPECT_EQ(content[0]["top_logprobs"][1]["bytes"], Parsed({0xE5}));

  content = Json(Post(kChat, Hi(R"("logprobs":true)")))["choices"][0]["logprobs"]["content"];
  EXPECT_EQ(content[0]["top_logprobs"], Parsed::array());
}

TEST_F(HttpChat, StreamBeginsWithTheRoleAndEndsWithUsage) {
  api_.engine.SetAnswer(AnswerWith("ab"));
  const std::vector<Parsed> chunks = Chunks(
      Post(kChat, Hi(R"("stream":true,"logprobs":true,"stream_options":{"include_usage":true})")));
  ASSERT_EQ(chunks.size(), 5u);  // role, a, b, end, usage
  EXPECT_EQ(chunks[0]["object"], "chat.completion.chunk");
  EXPECT_EQ(chunks[0]["choices"][0]["delta"], Parsed({{"role", "assistant"}, {"content", ""}}));
  EXPECT_EQ(chunks[1]["choices"][0]["delta"], Parsed({{"content", "a"}}));
  EXPECT_EQ(chunks[1]["choices"][0]["logprobs"]["content"][0]["token"], "a");
  EXPECT_TRUE(chunks[2]["choices"][0]["finish_reason"].is_null());
  EXPECT_EQ(chunks[3]["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(chunks[3]["choices"][0]["delta"], Parsed::object());
  EXPECT_EQ(chunks[4]["choices"], Parsed::array());
  EXPECT_EQ(chunks[4]["usage"]["completion_tokens"], 2);
}

TEST_F(HttpChat, EveryChoiceHasItsRole) {
  api_.engine.SetAnswer(AnswerWith("a"));
  std::map<int, int> roles;
  std::map<int, int> ends;
  for (const Parsed& chunk : Chunks(Post(kChat, Hi(R"("stream":true,"n":3)")))) {
    const Parsed& choice = chunk["choices"][0];
    if (choice["delta"].contains("role")) ++roles[choice["index"]];
    if (!choice["finish_reason"].is_null()) ++ends[choice["index"]];
  }
  const std::map<int, int> once = {{0, 1}, {1, 1}, {2, 1}};
  EXPECT_EQ(roles, once);
  EXPECT_EQ(ends, once);
}

TEST_F(HttpChat, NothingIsSentBeforeTheFirstToken) {
  options_.num_threads = 1;
  StartServer();
  HttpClient client(server_->port());
  ASSERT_TRUE(client.SendRequest("POST", kChat, Hi(R"("stream":true)")));
  ASSERT_TRUE(api_.engine.WaitForSubmit(0));
  // Once both threads of the pool are here, the reply has been handed to the connection; and what
  // the connection does with it comes before what the one network thread is asked after that.
  std::latch both(2);
  std::latch done(2);
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(api_.preparation.TrySubmit(PreparationLane::kOrdinary, [&] {
      both.arrive_and_wait();
      done.count_down();
    }));
  }
  done.wait();
  for (int i = 0; i < 3; ++i) ASSERT_EQ(Get("/health").status, 200);
  char byte = 0;
  EXPECT_EQ(recv(client.fd(), &byte, 1, MSG_PEEK | MSG_DONTWAIT), -1)
      << "the head goes out with the first token";
  api_.engine.Emit(0, ByteToken('x'));
  ASSERT_EQ(client.ReceiveHead().status, 200);
  const std::string first = client.ReceiveChunk();
  EXPECT_THAT(first, HasSubstr(R"("role":"assistant")"));
  EXPECT_THAT(first, HasSubstr(R"("content":"x")"));
  api_.engine.End(0, EndOf(api_.engine.request(0), FinishReason::kStop, 1));
}

TEST_F(HttpChat, ToolsOfATemplateWithoutCallsAreRefusedClearly) {
  const HttpAnswer answer =
      Post(kChat, Hi(R"("tools":[{"type":"function","function":{"name":"f"}}])"));
  EXPECT_EQ(answer.status, 400);
  EXPECT_EQ(Json(answer)["error"]["param"], "tools");
  EXPECT_THAT(Json(answer)["error"]["message"].get<std::string>(), HasSubstr("--tool-call-parser"));
}

TEST_F(HttpChat, ReturnTokenIds) {
  api_.engine.SetAnswer(AnswerWith("a"));
  const Parsed json = Json(Post(kChat, Hi(R"("return_token_ids":true,"prompt_logprobs":1)")));
  EXPECT_EQ(json["prompt_token_ids"].size(), 20u);
  EXPECT_EQ(json["prompt_logprobs"].size(), 20u);
  EXPECT_EQ(json["choices"][0]["token_ids"], Parsed({97}));
  const std::vector<Parsed> chunks =
      Chunks(Post(kChat, Hi(R"("return_token_ids":true,"stream":true)")));
  EXPECT_EQ(chunks[0]["prompt_token_ids"].size(), 20u);
  EXPECT_EQ(chunks[1]["choices"][0]["token_ids"], Parsed({97}));
}

}  // namespace
}  // namespace sheaf
