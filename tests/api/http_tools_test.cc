// Tools, thoughts and structured output of /v1/chat/completions as clients see them.
#include "gmock/gmock.h"
#include "tests/api/http_fixture.h"

namespace sheaf {
namespace {

using testing::HasSubstr;

constexpr const char* kChat = "/v1/chat/completions";

constexpr const char* kWeather =
    R"({"type":"function","function":{"name":"weather","parameters":{"type":"object",)"
    R"("properties":{"city":{"type":"string"},"days":{"type":"integer"}},"required":["city"]}}})";

// A body with a user's message, the weather tool and the fields of `more`.
std::string Ask(const std::string& more = "") {
  return R"({"messages":[{"role":"user","content":"hi"}],"tools":[)" + std::string(kWeather) + "]" +
         (more.empty() ? "" : "," + more) + "}";
}

constexpr const char* kCall =
    "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Oslo \"N\"</arg_value>\n"
    "<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>";
constexpr const char* kArguments = R"({"city":"Oslo \"N\"","days":3})";

// The fake codec has no tag tokens, so tags count as text.
class HttpTools : public HttpFixture {
 protected:
  void SetUp() override {
    api_.codec.format.tools = TagFormat::kGlm45;
    api_.codec.format.reasoning = TagFormat::kGlm45;
    HttpFixture::SetUp();
  }

  Parsed Message(const std::string& output, const std::string& body) {
    api_.engine.SetAnswer(AnswerWith(output));
    const HttpAnswer answer = Post(kChat, body);
    EXPECT_EQ(answer.status, 200) << answer.body;
    return Json(answer)["choices"][0];
  }

  // The deltas of a stream put together as clients do it.
  Parsed Streamed(const std::string& output, const std::string& body) {
    api_.engine.SetAnswer(AnswerWith(output));
    Parsed message = {{"content", ""}, {"reasoning", ""}, {"tool_calls", Parsed::array()}};
    Parsed finish;
    for (const Parsed& chunk : Chunks(Post(kChat, body))) {
      if (chunk["choices"].empty()) continue;
      const Parsed& choice = chunk["choices"][0];
      const Parsed& delta = choice["delta"];
      for (const char* field : {"content", "reasoning"}) {
        if (delta.contains(field)) {
          message[field] = message[field].get<std::string>() + delta[field].get<std::string>();
        }
      }
      for (const Parsed& call : delta.value("tool_calls", Parsed::array())) {
        const size_t index = call["index"];
        Parsed& calls = message["tool_calls"];
        if (call.contains("id")) {
          EXPECT_EQ(index, calls.size()) << "indices count up";
          EXPECT_EQ(call["type"], "function");
          EXPECT_EQ(call["function"]["arguments"], "");
          calls.push_back({{"id", call["id"]},
                           {"name", call["function"]["name"]},
                           {"arguments", std::string()}});
        } else {
          EXPECT_FALSE(call["function"].contains("name")) << "only the first delta has a name";
          calls[index]["arguments"] = calls[index]["arguments"].get<std::string>() +
                                      call["function"]["arguments"].get<std::string>();
        }
      }
      if (!choice["finish_reason"].is_null()) finish = choice["finish_reason"];
    }
    message["finish_reason"] = finish;
    return message;
  }
};

TEST_F(HttpTools, ACallIsNoContent) {
  const Parsed choice = Message(std::string("\n<think>Hm.</think>\n") + kCall, Ask());
  const Parsed& message = choice["message"];
  EXPECT_EQ(choice["finish_reason"], "tool_calls");
  EXPECT_TRUE(message["content"].is_null());
  EXPECT_EQ(message["reasoning"], "Hm.");
  EXPECT_EQ(message["reasoning_content"], "Hm.");
  ASSERT_EQ(message["tool_calls"].size(), 1u);
  const Parsed& call = message["tool_calls"][0];
  EXPECT_THAT(call["id"].get<std::string>(), testing::StartsWith("call_"));
  EXPECT_EQ(call["type"], "function");
  EXPECT_EQ(call["function"]["name"], "weather");
  EXPECT_EQ(call["function"]["arguments"], kArguments);
}

TEST_F(HttpTools, StreamsAreTheSame) {
  const std::string output =
      "\n<think>Two.</think>\nFirst this\n" + std::string(kCall) + "\n" + kCall + "\nand done.";
  const Parsed whole = Message(output, Ask())["message"];
  const Parsed streamed = Streamed(output, Ask(R"("stream":true)"));
  EXPECT_EQ(streamed["content"], "First thisand done.");
  EXPECT_EQ(streamed["content"], whole["content"]);
  EXPECT_EQ(streamed["reasoning"], whole["reasoning"]);
  EXPECT_EQ(streamed["finish_reason"], "tool_calls");
  ASSERT_EQ(streamed["tool_calls"].size(), 2u);
  EXPECT_NE(streamed["tool_calls"][0]["id"], streamed["tool_calls"][1]["id"]);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(streamed["tool_calls"][i]["arguments"], kArguments);
    EXPECT_EQ(whole["tool_calls"][i]["function"]["arguments"], kArguments);
  }
}

TEST_F(HttpTools, ACallThatIsCutOffIsNotReportedAsComplete) {
  const std::string cut = std::string(kCall).substr(0, 60);
  api_.engine.SetAnswer([&](const GenerationRequest& request, GenerationSink& sink) {
    for (const char c : cut) sink.OnToken(ByteToken(c));
    sink.OnEnd(EndOf(request, FinishReason::kLength, static_cast<int>(cut.size())));
  });
  const Parsed choice = Json(Post(kChat, Ask()))["choices"][0];
  EXPECT_EQ(choice["finish_reason"], "length");
}

TEST_F(HttpTools, AnUndeclaredToolIsContentAndCounted) {
  const std::string output =
      "<tool_call>other\n<arg_key>a</arg_key>\n<arg_value>1</arg_value>\n</tool_call>";
  const Parsed choice = Message(output, Ask());
  EXPECT_EQ(choice["message"]["content"], output);
  EXPECT_EQ(choice["finish_reason"], "stop");
  EXPECT_THAT(api_.Metrics(), HasSubstr("sheaf_undeclared_tool_calls_total 1\n"));
}

TEST_F(HttpTools, WithToolChoiceNoneCallsAreText) {
  const Parsed choice = Message(kCall, Ask(R"("tool_choice":"none")"));
  EXPECT_EQ(choice["message"]["content"], kCall);
  EXPECT_FALSE(choice["message"].contains("tool_calls"));
}

TEST_F(HttpTools, AnAnswerThatStopsInItsThoughtsHasNoContent) {
  const Parsed choice = Message("\n<think>Hm", Ask());
  EXPECT_TRUE(choice["message"]["content"].is_null());
  EXPECT_EQ(choice["message"]["reasoning"], "Hm");
}

TEST_F(HttpTools, EitherNameOfThoughtsCanBeTurnedOff) {
  api_.settings.reasoning_field = false;
  const Parsed message = Message("<think>Hm</think>a", Ask())["message"];
  EXPECT_FALSE(message.contains("reasoning"));
  EXPECT_EQ(message["reasoning_content"], "Hm");
  const Parsed hidden =
      Message("<think>Hm</think>a", Ask(R"("include_reasoning":false)"))["message"];
  EXPECT_FALSE(hidden.contains("reasoning_content"));
  EXPECT_EQ(hidden["content"], "a");
}

TEST_F(HttpTools, ThoughtsAreCountedByTextWhereTagsAreText) {
  api_.engine.SetAnswer(AnswerWith("<think>four</think>a"));
  const Parsed usage = Json(Post(kChat, Ask()))["usage"];
  EXPECT_EQ(usage["completion_tokens_details"]["reasoning_tokens"], 4);  // not the tags
}

TEST_F(HttpTools, UsageTellsReasoningTokens) {
  api_.codec.format.tags.think_end = FakeTextCodec::kPrefix;
  api_.engine.SetAnswer([](const GenerationRequest& request, GenerationSink& sink) {
    sink.OnToken(ByteToken('a'));
    GenerationEnd end = EndOf(request, FinishReason::kStop, 9);
    end.reasoning_tokens = 7;
    sink.OnEnd(end);
  });
  const Parsed usage = Json(Post(kChat, Ask()))["usage"];
  EXPECT_EQ(usage["completion_tokens_details"]["reasoning_tokens"], 7);
  EXPECT_EQ(usage["prompt_tokens_details"]["cached_tokens"], 0);
}

TEST_F(HttpTools, RequiredAndNamedCallsAreGuided) {
  struct Case {
    const char* more;
    int min_calls, max_calls;
    bool text_around;
  };
  const Case cases[] = {
      {R"("tool_choice":"required")", 1, -1, false},
      {R"("tool_choice":"required","parallel_tool_calls":false)", 1, 1, false},
      {R"("tool_choice":{"type":"function","function":{"name":"weather"}})", 1, 1, false},
      {R"("parallel_tool_calls":false)", 0, 1, true},
      {R"("tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[)"
       R"({"type":"function","function":{"name":"weather"}}]}})",
       0, -1, true},
  };
  for (const Case& guided : cases) {
    SCOPED_TRACE(guided.more);
    api_.codec.compiled.clear();
    Message(kCall, Ask(guided.more));
    ASSERT_EQ(api_.codec.compiled.size(), 1u);
    const GrammarSpec& spec = api_.codec.compiled[0];
    EXPECT_EQ(spec.kind, GrammarKind::kToolCalls);
    EXPECT_EQ(spec.tool_calls.min_calls, guided.min_calls);
    EXPECT_EQ(spec.tool_calls.max_calls, guided.max_calls);
    EXPECT_EQ(spec.tool_calls.text_around, guided.text_around);
    ASSERT_EQ(spec.tool_calls.tools.size(), 1u);
    EXPECT_EQ(spec.tool_calls.tools[0].strict, guided.min_calls > 0);
    EXPECT_NE(api_.engine.request(api_.engine.submitted() - 1).guide, nullptr);
  }
  api_.codec.compiled.clear();
  Message("free", Ask());
  EXPECT_TRUE(api_.codec.compiled.empty());
}

TEST_F(HttpTools, StructuredOutputByAllItsNames) {
  struct Case {
    const char* fields;
    GrammarKind kind;
    const char* text;
    bool any_whitespace = false;
  };
  const Case cases[] = {
      {R"("response_format":{"type":"json_object"})", GrammarKind::kJsonObject, ""},
      {R"("response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"null"}}})",
       GrammarKind::kJsonSchema, R"({"type":"null"})"},
      {R"("structured_outputs":{"json":"{\"type\":\"null\"}","disable_any_whitespace":false})",
       GrammarKind::kJsonSchema, R"({"type":"null"})", true},
      {R"("structured_outputs":{"regex":"a+"})", GrammarKind::kRegex, "a+"},
      {R"("structured_outputs":{"choice":["a","b"]})", GrammarKind::kChoice, R"(["a","b"])"},
      {R"("structured_outputs":{"grammar":"start: \"a\""})", GrammarKind::kLark, R"(start: "a")"},
      {R"("guided_json":{"type":"null"})", GrammarKind::kJsonSchema, R"({"type":"null"})"},
      {R"("guided_regex":"a+")", GrammarKind::kRegex, "a+"},
      {R"("guided_choice":["a"])", GrammarKind::kChoice, R"(["a"])"},
      {R"("guided_grammar":"start: \"a\"")", GrammarKind::kLark, R"(start: "a")"},
  };
  for (const Case& asked : cases) {
    SCOPED_TRACE(asked.fields);
    api_.codec.compiled.clear();
    Message("x",
            R"({"messages":[{"role":"user","content":"hi"}],)" + std::string(asked.fields) + "}");
    ASSERT_EQ(api_.codec.compiled.size(), 1u);
    EXPECT_EQ(api_.codec.compiled[0].kind, asked.kind);
    EXPECT_EQ(api_.codec.compiled[0].text, asked.text);
    EXPECT_EQ(api_.codec.compiled[0].any_whitespace, asked.any_whitespace);
  }
}

TEST_F(HttpTools, BesideToolsAnAnswerIsConstrainedOrACall) {
  Message("{}", Ask(R"("response_format":{"type":"json_object"})"));
  const GrammarSpec& spec = api_.codec.compiled.back();
  EXPECT_EQ(spec.kind, GrammarKind::kToolCalls);
  ASSERT_NE(spec.tool_calls.or_answer, nullptr);
  EXPECT_EQ(spec.tool_calls.or_answer->kind, GrammarKind::kJsonObject);
  EXPECT_FALSE(spec.tool_calls.text_around);
  Message("{}", Ask(R"("tool_choice":"none","response_format":{"type":"json_object"})"));
  EXPECT_EQ(api_.codec.compiled.back().kind, GrammarKind::kJsonObject);
}

TEST_F(HttpTools, BadInputNamesItsField) {
  struct Case {
    std::string fields;
    const char* param;
  };
  std::string many = R"("tools":[)";
  for (int i = 0; i < 1000; ++i) {
    many += std::string(i > 0 ? "," : "") + R"({"type":"function","function":{"name":"f)" +
            std::to_string(i) + R"("}})";
  }
  const Case cases[] = {
      {R"("tools":{})", "tools"},
      {R"("tools":[{"type":"retrieval"}])", "tools[0].type"},
      {R"("tools":[{"type":"function"}])", "tools[0].function"},
      {R"("tools":[{"type":"function","function":{}}])", "tools[0].function.name"},
      {R"("tools":[{"type":"function","function":{"name":"a b"}}])", "tools[0].function.name"},
      {R"("tools":[{"type":"function","function":{"name":""}}])", "tools[0].function.name"},
      {R"("tools":[{"type":"function","function":{"name":"f","parameters":[]}}])",
       "tools[0].function.parameters"},
      {R"("tools":[{"type":"function","function":{"name":"f","parameters":{"type":"array"}}}])",
       "tools[0].function.parameters.type"},
      {R"("tools":[{"type":"function","function":{"name":"f"}},)"
       R"({"type":"function","function":{"name":"f"}}])",
       "tools[1].function.name"},
      {many + "]", "tools"},
      {R"("tool_choice":"required")", "tool_choice"},
      {R"("tool_choice":"maybe")", "tool_choice"},
      {R"("tool_choice":{"type":"function","function":{"name":"g"}},)"
       R"("tools":[{"type":"function","function":{"name":"f"}}])",
       "tool_choice"},
      {R"("response_format":{"type":"yaml"})", "response_format.type"},
      {R"("response_format":{"type":"json_schema"})", "response_format.json_schema.schema"},
      {R"("response_format":{"type":"json_schema","json_schema":{"schema":"wrong"}})",
       "response_format"},
      {R"("response_format":{"type":"json_object"},"guided_regex":"a")", "guided_regex"},
      {R"("structured_outputs":{"regex":"a","json_object":true})", "structured_outputs"},
      {R"("structured_outputs":{})", "structured_outputs"},
      {R"("guided_choice":[])", "guided_choice"},
      {R"("tool_choice":"required","tools":[{"type":"function","function":{"name":"f"}}],)"
       R"("response_format":{"type":"json_object"})",
       "response_format"},
      {R"("reasoning_effort":"enormous")", "reasoning_effort"},
      {R"("reasoning_effort":"none","enable_thinking":true)", "reasoning_effort"},
      {R"("reasoning_effort":"none","chat_template_kwargs":{"enable_thinking":true})",
       "reasoning_effort"},
      {R"("thinking":{"type":"perhaps"})", "thinking"},
      {R"("thinking_token_budget":-1)", "thinking_token_budget"},
      {R"("continue_final_message":true)", "continue_final_message"},
      {R"("chat_template":"{{ 1 }}")", "chat_template"},
      {R"("use_beam_search":true)", "use_beam_search"},
      {R"("echo":true)", "echo"},
      {R"("bad_words":[""])", "bad_words"},
      {R"("truncate_prompt_tokens":0)", "truncate_prompt_tokens"},
      {R"("max_tokens":"five")", "max_tokens"},
  };
  for (const Case& bad : cases) {
    SCOPED_TRACE(bad.fields.substr(0, 200));
    const HttpAnswer answer =
        Post(kChat, R"({"messages":[{"role":"user","content":"hi"}],)" + bad.fields + "}");
    EXPECT_EQ(answer.status, 400) << answer.body;
    EXPECT_EQ(Json(answer)["error"]["param"], bad.param) << answer.body;
  }
  EXPECT_EQ(api_.engine.submitted(), 0u);
}

TEST_F(HttpTools, ValuesAreConvertedAsPydanticDoes) {
  Message("a", Ask(R"("max_tokens":"5","temperature":"0.5","seed":"7","stream":"false","n":1.0)"));
  const GenerationRequest request = api_.engine.request(0);
  EXPECT_EQ(request.stop.max_tokens, 5);
  EXPECT_EQ(request.sampling.temperature, 0.5f);
  EXPECT_EQ(request.sampling.seed, 7u);
}

TEST_F(HttpTools, ReasoningEffortNoneTurnsThinkingOff) {
  for (const char* field : {R"("reasoning_effort":"none")", R"("enable_thinking":false)",
                            R"("thinking":{"type":"disabled"})"}) {
    Message("a", Ask(field));
    const GenerationRequest request = api_.engine.request(api_.engine.submitted() - 1);
    EXPECT_THAT(std::string(request.prompt.begin(), request.prompt.end()),
                HasSubstr(R"("enable_thinking":false)"));
  }
}

TEST_F(HttpTools, AMessageIsContinued) {
  Message("a", R"({"continue_final_message":true,"messages":[{"role":"user","content":"hi"},)"
               R"({"role":"assistant","content":"It is "}]})");
  const GenerationRequest request = api_.engine.request(0);
  EXPECT_EQ(std::string(request.prompt.begin(), request.prompt.end()),
            "user: hi\nassistant: It is ");
  // White space at the beginning is the text's.
  EXPECT_EQ(Message("  so", R"({"continue_final_message":true,"messages":[{"role":"assistant",)"
                            R"("content":"x"}]})")["message"]["content"],
            "  so");
}

TEST_F(HttpTools, PromptsAreCutFromTheLeft) {
  Message("a", R"({"truncate_prompt_tokens":3,"messages":[{"role":"user","content":"hi"}]})");
  const GenerationRequest request = api_.engine.request(0);
  EXPECT_EQ(std::string(request.prompt.begin(), request.prompt.end()), "t: ");
}

TEST_F(HttpTools, BadWordsReachTheEngine) {
  Message("a", Ask(R"("bad_words":["no"])"));
  const auto words = api_.engine.request(0).bad_words;
  ASSERT_EQ(words.size(), 1u);
  EXPECT_EQ(words[0], (std::vector<TokenId>{'n', 'o'}));
}

TEST_F(HttpTools, RenderShowsWhatWouldRun) {
  const HttpAnswer answer = Post("/v1/chat/completions/render", Ask(R"("max_tokens":4)"));
  ASSERT_EQ(answer.status, 200) << answer.body;
  const Parsed json = Json(answer);
  EXPECT_EQ(json["prompt"], "user: hi\nassistant: ");
  EXPECT_EQ(json["token_ids"].size(), 20u);
  EXPECT_EQ(json["sampling_params"]["max_tokens"], 4);
  EXPECT_EQ(api_.engine.submitted(), 0u);
}

TEST_F(HttpTools, TokenizeTakesWhatAChatTakes) {
  EXPECT_EQ(Json(Post("/tokenize", Ask()))["count"], 20);
  EXPECT_EQ(Post("/tokenize", Ask(R"("tool_choice":"maybe")")).status, 400);
}

}  // namespace
}  // namespace sheaf
