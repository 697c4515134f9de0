// /v1/completions as clients see it.
#include <atomic>

#include "gmock/gmock.h"
#include "tests/api/http_fixture.h"

namespace sheaf {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class HttpCompletions : public HttpFixture {};

TEST_F(HttpCompletions, WholeAnswer) {
  api_.engine.SetAnswer(AnswerWith("abc"));
  const HttpAnswer answer =
      Post("/v1/completions", R"({"model":"alias","prompt":"hi","temperature":0})");
  ASSERT_EQ(answer.status, 200) << answer.body;
  EXPECT_EQ(answer.headers.at("content-type"), "application/json");
  const Parsed json = Json(answer);
  EXPECT_EQ(json["object"], "text_completion");
  EXPECT_EQ(json["model"], "glm-nano");
  EXPECT_EQ(json["created"], 1700000123);
  EXPECT_EQ(json["id"].get<std::string>().rfind("cmpl-", 0), 0u);
  ASSERT_EQ(json["choices"].size(), 1u);
  EXPECT_EQ(json["choices"][0]["text"], "abc");
  EXPECT_EQ(json["choices"][0]["finish_reason"], "stop");
  EXPECT_TRUE(json["choices"][0]["stop_reason"].is_null());  // EOS is no stop of the client's
  EXPECT_TRUE(json["choices"][0]["logprobs"].is_null());
  EXPECT_EQ(json["usage"],
            Parsed({{"prompt_tokens", 3},
                    {"completion_tokens", 3},
                    {"total_tokens", 6},
                    {"prompt_tokens_details", {{"cached_tokens", 0}}}}));
}

TEST_F(HttpCompletions, LengthAndStopReasons) {
  api_.engine.SetAnswer(AnswerWith("abcdef"));
  Parsed choice = Json(Post("/v1/completions", R"({"prompt":"hi","max_tokens":2})"))["choices"][0];
  EXPECT_EQ(choice["finish_reason"], "length");
  EXPECT_EQ(choice["text"], "ab");

  api_.engine.SetAnswer([](const GenerationRequest& request, GenerationSink& sink) {
    GenerationEnd end = EndOf(request, FinishReason::kStop, 0);
    end.stop_string = "END";
    end.stop_token.reset();
    end.text = "held back";
    sink.OnEnd(end);
  });
  choice = Json(Post("/v1/completions", R"({"prompt":"hi","stop":"END"})"))["choices"][0];
  EXPECT_EQ(choice["stop_reason"], "END");
  EXPECT_EQ(choice["text"], "held back");

  api_.engine.SetAnswer([](const GenerationRequest& request, GenerationSink& sink) {
    GenerationEnd end = EndOf(request, FinishReason::kStop, 0);
    end.stop_token = 65;
    sink.OnEnd(end);
  });
  choice = Json(Post("/v1/completions", R"({"prompt":"hi","stop_token_ids":[65]})"))["choices"][0];
  EXPECT_EQ(choice["stop_reason"], 65);
}

TEST_F(HttpCompletions, PromptsTimesSamplesInOrder) {
  api_.engine.SetAnswer([](const GenerationRequest& request, GenerationSink& sink) {
    TokenEvent event;
    event.text = std::to_string(request.prompt.at(0)) + "/" + std::to_string(request.sampling.seed);
    sink.OnToken(event);
    sink.OnEnd(EndOf(request, FinishReason::kStop, 1));
  });
  const Parsed json = Json(Post("/v1/completions", R"({"prompt":[[1,2],[3]],"n":2,"seed":40})"));
  std::vector<std::string> texts;
  for (const Parsed& choice : json["choices"]) {
    EXPECT_EQ(choice["index"], texts.size());
    texts.push_back(choice["text"]);
  }
  EXPECT_THAT(texts, ElementsAre("1/40", "1/41", "3/40", "3/41"));
  EXPECT_EQ(json["usage"]["prompt_tokens"], 3);  // each prompt once
  EXPECT_EQ(json["usage"]["completion_tokens"], 4);
}

TEST_F(HttpCompletions, Logprobs) {
  api_.engine.SetAnswer(AnswerWith("ab"));
  Parsed logprobs =
      Json(Post("/v1/completions", R"({"prompt":"hi","logprobs":2})"))["choices"][0]["logprobs"];
  EXPECT_EQ(logprobs["tokens"], Parsed({"a", "b"}));
  EXPECT_EQ(logprobs["token_logprobs"], Parsed({-0.5, -0.5}));
  EXPECT_EQ(logprobs["top_logprobs"][0], Parsed({{"a", -0.5}, {"b", -1.5}}));
  EXPECT_EQ(logprobs["text_offset"], Parsed({0, 1}));

  logprobs =
      Json(Post("/v1/completions",
                R"({"prompt":"hi","logprobs":0,"return_tokens_as_token_ids":true})"))["choices"][0]
                                                                                     ["logprobs"];
  EXPECT_EQ(logprobs["tokens"], Parsed({"token_id:97", "token_id:98"}));
  EXPECT_EQ(logprobs["top_logprobs"][0],
            Parsed({{"token_id:97", -0.5}}));  // the chosen one is always there
}

TEST_F(HttpCompletions, TokensThatAreNoTextStillMakeJson) {
  api_.engine.SetAnswer(AnswerWith("\xE4\xBD"));
  const Parsed json = Json(Post("/v1/completions", R"({"prompt":"hi","logprobs":1})"));
  EXPECT_EQ(json["choices"][0]["logprobs"]["tokens"], Parsed({"", "\xEF\xBF\xBD"}));
}

TEST_F(HttpCompletions, TokensOfASplitCharacterJoinToTheText) {
  api_.engine.SetAnswer(AnswerWith("a\xC3\xA9z"));  // four tokens, three characters
  const Parsed logprobs =
      Json(Post("/v1/completions", R"({"prompt":"hi","logprobs":1})"))["choices"][0]["logprobs"];
  EXPECT_EQ(logprobs["tokens"], Parsed({"a", "", "\xC3\xA9", "z"}));
  EXPECT_EQ(logprobs["text_offset"], Parsed({0, 1, 1, 2}));

  Parsed tokens = Parsed::array();
  Parsed offsets = Parsed::array();
  for (const Parsed& chunk :
       Chunks(Post("/v1/completions", R"({"prompt":"hi","logprobs":1,"stream":true})"))) {
    const Parsed& piece = chunk["choices"][0]["logprobs"];
    if (piece.is_null()) continue;
    tokens.insert(tokens.end(), piece["tokens"].begin(), piece["tokens"].end());
    offsets.insert(offsets.end(), piece["text_offset"].begin(), piece["text_offset"].end());
  }
  EXPECT_EQ(tokens, logprobs["tokens"]);
  EXPECT_EQ(offsets, logprobs["text_offset"]);
}

TEST_F(HttpCompletions, Echo) {
  api_.engine.SetAnswer(AnswerWith("c"));
  Parsed choice = Json(
      Post("/v1/completions",
           R"({"prompt":[97,98],"echo":true,"logprobs":1,"return_token_ids":true})"))["choices"][0];
  EXPECT_EQ(choice["text"], "abc");
  EXPECT_EQ(choice["logprobs"]["tokens"], Parsed({"a", "b", "c"}));
  EXPECT_EQ(choice["logprobs"]["token_logprobs"], Parsed({nullptr, -0.5, -0.5}));
  EXPECT_EQ(choice["logprobs"]["text_offset"], Parsed({0, 1, 2}));
  EXPECT_EQ(choice["prompt_token_ids"], Parsed({97, 98}));
  EXPECT_EQ(choice["token_ids"], Parsed({99}));
  EXPECT_FALSE(choice.contains("prompt_logprobs"));  // not asked for as such

  const Parsed json =
      Json(Post("/v1/completions", R"({"prompt":[97,98],"echo":true,"max_tokens":0})"));
  EXPECT_EQ(json["choices"][0]["text"], "ab");
  EXPECT_EQ(json["usage"]["completion_tokens"], 0);
}

TEST_F(HttpCompletions, PromptLogprobs) {
  api_.engine.SetAnswer(AnswerWith("c"));
  const Parsed choice =
      Json(Post("/v1/completions", R"({"prompt":[97,98],"prompt_logprobs":2})"))["choices"][0];
  ASSERT_EQ(choice["prompt_logprobs"].size(), 2u);
  EXPECT_TRUE(choice["prompt_logprobs"][0].is_null());
  EXPECT_EQ(choice["prompt_logprobs"][1]["98"],
            Parsed({{"logprob", -0.5}, {"rank", 1}, {"decoded_token", "b"}}));
  EXPECT_EQ(choice["prompt_logprobs"][1]["99"]["rank"], 2);
}

TEST_F(HttpCompletions, Stream) {
  api_.engine.SetAnswer(AnswerWith("ab"));
  const HttpAnswer answer =
      Post("/v1/completions",
           R"({"prompt":"hi","stream":true,"stream_options":{"include_usage":true}})");
  EXPECT_THAT(answer.headers.at("content-type"), HasSubstr("text/event-stream"));
  EXPECT_EQ(answer.headers.at("transfer-encoding"), "chunked");
  const std::vector<Parsed> chunks = Chunks(answer);
  ASSERT_EQ(chunks.size(), 4u);  // a, b, end, usage
  std::string text;
  for (const Parsed& chunk : chunks) {
    EXPECT_EQ(chunk["object"], "text_completion");
    EXPECT_EQ(chunk["id"], chunks[0]["id"]);
    if (&chunk != &chunks[3]) {
      text += chunk["choices"][0]["text"];
      EXPECT_TRUE(chunk["usage"].is_null());
    }
  }
  EXPECT_EQ(text, "ab");
  EXPECT_TRUE(chunks[1]["choices"][0]["finish_reason"].is_null());
  EXPECT_EQ(chunks[2]["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(chunks[3]["choices"], Parsed::array());
  EXPECT_EQ(chunks[3]["usage"],
            Parsed({{"prompt_tokens", 3},
                    {"completion_tokens", 2},
                    {"total_tokens", 5},
                    {"prompt_tokens_details", {{"cached_tokens", 0}}}}));
}

TEST_F(HttpCompletions, StreamWithoutUsageSaysNothingOfIt) {
  api_.engine.SetAnswer(AnswerWith("a"));
  for (const Parsed& chunk : Chunks(Post("/v1/completions", R"({"prompt":"hi","stream":true})"))) {
    EXPECT_FALSE(chunk.contains("usage"));
    EXPECT_EQ(chunk["choices"].size(), 1u);
  }
}

TEST_F(HttpCompletions, StreamWithEverything) {
  api_.engine.SetAnswer(AnswerWith("c"));
  const std::vector<Parsed> chunks =
      Chunks(Post("/v1/completions", R"({"prompt":[97,98],"stream":true,"echo":true,
      "logprobs":1,"return_token_ids":true,
      "stream_options":{"include_usage":true,"continuous_usage_stats":true}})"));
  ASSERT_EQ(chunks.size(), 4u);  // prompt, c, end, usage
  EXPECT_EQ(chunks[0]["choices"][0]["text"], "ab");
  EXPECT_EQ(chunks[0]["choices"][0]["prompt_token_ids"], Parsed({97, 98}));
  EXPECT_EQ(chunks[0]["choices"][0]["logprobs"]["tokens"], Parsed({"a", "b"}));
  EXPECT_EQ(chunks[1]["choices"][0]["logprobs"]["text_offset"], Parsed({2}));
  EXPECT_EQ(chunks[1]["choices"][0]["token_ids"], Parsed({99}));
  EXPECT_EQ(chunks[1]["usage"]["completion_tokens"], 1);
  EXPECT_FALSE(chunks[1]["usage"].contains("prompt_tokens_details")) << "not known yet";
  EXPECT_EQ(chunks[2]["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
}

TEST_F(HttpCompletions, CachedTokensOfAPromptCountOnce) {
  // The choices read what the first of them computed: of a prompt, only what it found was cached.
  std::atomic<int32_t> next{0};
  api_.engine.SetAnswer([&](const GenerationRequest& request, GenerationSink& sink) {
    GenerationEnd end;
    end.prompt_tokens = static_cast<int32_t>(request.prompt.size());
    const int32_t choice = next++;
    end.cached_tokens = choice == 0 ? 32 : choice < 3 ? 48 : choice == 4 ? 16 : 80;
    sink.OnEnd(std::move(end));
  });
  const Parsed usage =
      Json(Post("/v1/completions", R"({"prompt":["hi","ho"],"n":3})"))["usage"];
  EXPECT_EQ(usage["prompt_tokens_details"]["cached_tokens"], 32 + 16);
}

TEST_F(HttpCompletions, MorePromptLogprobsThanCanBeKeptAreRefused) {
  api_.engine.SetAnswer(AnswerWith("a"));
  api_.limits.max_prompt_logprob_bytes = 9000;
  const auto post = [&](int n) {
    return Post("/v1/completions", R"({"prompt":")" + std::string(50, 'p') +
                                       R"(","prompt_logprobs":2,"n":)" + std::to_string(n) + "}");
  };
  EXPECT_EQ(post(2).status, 200);
  const HttpAnswer refused = post(3);
  EXPECT_EQ(refused.status, 400);
  EXPECT_EQ(Json(refused)["error"]["param"], "prompt_logprobs") << refused.body;
}

// In chunks that stay small; put together they say what a whole answer says.
TEST_F(HttpCompletions, ALongEchoLeavesInPieces) {
  api_.engine.SetAnswer(AnswerWith("c"));
  const std::string prompt(500, 'p');
  const std::string fields =
      R"("prompt":")" + prompt + R"(","max_tokens":1,"echo":true,"logprobs":2)";
  const Parsed whole = Json(Post("/v1/completions", "{" + fields + "}"))["choices"][0];
  ASSERT_EQ(whole["logprobs"]["tokens"].size(), 502u);  // with the prefix token
  std::string text;
  Parsed together = {{"tokens", Parsed::array()}, {"token_logprobs", Parsed::array()},
                     {"text_offset", Parsed::array()}, {"top_logprobs", Parsed::array()}};
  int with_logprobs = 0;
  for (const Parsed& chunk : Chunks(Post("/v1/completions", "{" + fields + R"(,"stream":true})"))) {
    const Parsed& choice = chunk["choices"][0];
    text += choice["text"].get<std::string>();
    if (choice["logprobs"].is_null()) continue;
    ++with_logprobs;
    EXPECT_LE(choice["logprobs"]["tokens"].size(), 256u);
    for (auto& [name, list] : together.items()) {
      for (const Parsed& entry : choice["logprobs"][name]) list.push_back(entry);
    }
  }
  EXPECT_EQ(with_logprobs, 3) << "two of the prompt, one of the token";
  EXPECT_EQ(text, whole["text"]);
  for (auto& [name, list] : together.items()) EXPECT_EQ(list, whole["logprobs"][name]) << name;
}

TEST_F(HttpCompletions, StreamSendsATokenWhenItIsThere) {
  HttpClient client(server_->port());
  ASSERT_TRUE(client.SendRequest("POST", "/v1/completions", R"({"prompt":"hi","stream":true})"));
  ASSERT_TRUE(api_.engine.WaitForSubmit(0));
  api_.engine.Emit(0, ByteToken('x'));
  ASSERT_EQ(client.ReceiveHead().status, 200);
  EXPECT_THAT(client.ReceiveChunk(), HasSubstr(R"("text":"x")"));
  // Half a character: nothing to show, so no chunk of its own.
  api_.engine.Emit(0, TokenEvent{});
  api_.engine.Emit(0, ByteToken('y'));
  EXPECT_THAT(client.ReceiveChunk(), HasSubstr(R"("text":"y")"));
  api_.engine.End(0, EndOf(api_.engine.request(0), FinishReason::kLength, 3));
  std::string rest;
  for (std::string chunk = client.ReceiveChunk(); !chunk.empty(); chunk = client.ReceiveChunk())
    rest += chunk;
  EXPECT_THAT(rest, HasSubstr(R"("finish_reason":"length")"));
  EXPECT_THAT(rest, HasSubstr("data: [DONE]\n\n"));
  // The connection is good for another request.
  EXPECT_EQ(client.Get("/health").status, 200);
}

TEST_F(HttpCompletions, FailureBeforeTheFirstTokenIsAPlainError) {
  for (const char* stream : {"true", "false"}) {
    api_.engine.SetAnswer([](const GenerationRequest&, GenerationSink& sink) {
      GenerationEnd end;
      end.reason = FinishReason::kError;
      end.status = absl::UnavailableError("worker 2 does not answer");
      sink.OnEnd(end);
    });
    const HttpAnswer answer =
        Post("/v1/completions", std::string(R"({"prompt":"hi","stream":)") + stream + "}");
    EXPECT_EQ(answer.status, 503);
    EXPECT_EQ(answer.headers.at("retry-after"), "2");
    EXPECT_EQ(Json(answer)["error"]["message"], "worker 2 does not answer");
  }
}

TEST_F(HttpCompletions, FailureInAStreamIsAnEventBeforeDone) {
  HttpClient client(server_->port());
  ASSERT_TRUE(client.SendRequest("POST", "/v1/completions", R"({"prompt":"hi","stream":true})"));
  ASSERT_TRUE(api_.engine.WaitForSubmit(0));
  api_.engine.Emit(0, ByteToken('x'));
  GenerationEnd end;
  end.reason = FinishReason::kError;
  end.status = absl::UnavailableError("worker 2 does not answer");
  api_.engine.End(0, end);
  const std::vector<Parsed> chunks = Chunks(client.Receive());
  ASSERT_EQ(chunks.size(), 2u);
  EXPECT_EQ(chunks[1]["error"]["message"], "worker 2 does not answer");
  EXPECT_EQ(chunks[1]["error"]["code"], 503);
}

TEST_F(HttpCompletions, OneFailedChoiceCancelsTheOthers) {
  HttpClient client(server_->port());
  ASSERT_TRUE(client.SendRequest("POST", "/v1/completions", R"({"prompt":["a","b"]})"));
  ASSERT_TRUE(api_.engine.WaitForSubmit(1));
  GenerationEnd end;
  end.reason = FinishReason::kError;
  end.status = absl::InternalError("no finite logit");
  api_.engine.End(1, end);
  EXPECT_EQ(client.Receive().status, 500);
  EXPECT_TRUE(api_.engine.WaitForCancel(0));
}

}  // namespace
}  // namespace sheaf
