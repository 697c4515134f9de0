// The gRPC face over a real loopback server: streams, rich errors, cancellation, deadlines, slow
// clients, health.
#include "router/api/grpc/grpc_server.h"

#include <thread>

#include "gmock/gmock.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "router/api/grpc/grpc_inference_service.h"
#include "sheaf/v1/inference.grpc.pb.h"
#include "tests/api/api_fixture.h"

namespace sheaf {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class GrpcServerTest : public testing::Test {
 protected:
  void SetUp() override {
    auto server = GrpcServer::Start({}, api_.engine, {service_.get()});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    ASSERT_NE(server_->port(), 0);
    channel_ = Channel();
    stub_ = v1::Inference::NewStub(channel_);
  }

  std::shared_ptr<grpc::Channel> Channel() {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(-1);
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(server_->port()),
                                     grpc::InsecureChannelCredentials(), arguments);
  }

  static v1::GenerateRequest Hello() {
    v1::GenerateRequest request;
    request.set_text("hello");
    return request;
  }

  struct Result {
    std::vector<v1::GenerateResponse> messages;
    grpc::Status status;
    std::string text() const {
      std::string joined;
      for (const auto& message : messages)
        joined += message.delta().text() + message.finished().text();
      return joined;
    }
  };

  Result Generate(const v1::GenerateRequest& request, grpc::ClientContext* given = nullptr) {
    grpc::ClientContext own;
    grpc::ClientContext& context = given == nullptr ? own : *given;
    auto reader = stub_->Generate(&context, request);
    Result result;
    for (v1::GenerateResponse message; reader->Read(&message);) result.messages.push_back(message);
    result.status = reader->Finish();
    return result;
  }

  template <typename Detail>
  static Detail DetailOf(const grpc::Status& status) {
    google::rpc::Status details;
    EXPECT_TRUE(details.ParseFromString(status.error_details()));
    EXPECT_EQ(details.code(), status.error_code());
    EXPECT_EQ(details.message(), status.error_message());
    Detail found;
    bool any = false;
    for (const auto& detail : details.details())
      any |= detail.Is<Detail>() && detail.UnpackTo(&found);
    EXPECT_TRUE(any) << "no " << Detail::descriptor()->full_name();
    return found;
  }

  bool WaitForMetric(const std::string& line) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (std::chrono::steady_clock::now() < deadline) {
      if (api_.Metrics().find(line + "\n") != std::string::npos) return true;
      std::this_thread::yield();
    }
    return false;
  }

  ApiFixture api_;
  std::unique_ptr<grpc::Service> service_ = MakeInferenceService(api_.context);
  std::unique_ptr<GrpcServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Inference::Stub> stub_;
};

TEST_F(GrpcServerTest, PromptDeltasFinished) {
  api_.engine.SetAnswer(AnswerWith("abc"));
  v1::GenerateRequest request = Hello();
  request.mutable_sampling()->set_seed(5);
  request.mutable_output()->set_prompt_token_ids(true);
  request.set_request_id("mine");
  const Result result = Generate(request);
  ASSERT_TRUE(result.status.ok()) << result.status.error_message();
  ASSERT_GE(result.messages.size(), 3u);
  const v1::PromptInfo& prompt = result.messages.front().prompt();
  EXPECT_EQ(prompt.request_id(), "mine");
  EXPECT_EQ(prompt.model(), "glm-nano");
  EXPECT_EQ(prompt.prompt_tokens(), 6u);
  EXPECT_THAT(prompt.token_ids(), ElementsAre(257, 'h', 'e', 'l', 'l', 'o'));
  EXPECT_EQ(prompt.seed(), 5u);
  EXPECT_EQ(result.text(), "abc");
  std::vector<uint32_t> ids;
  for (const auto& message : result.messages) {
    ids.insert(ids.end(), message.delta().token_ids().begin(), message.delta().token_ids().end());
    EXPECT_EQ(message.has_finished(), &message == &result.messages.back());
  }
  EXPECT_THAT(ids, ElementsAre('a', 'b', 'c'));
  const v1::Finished& finished = result.messages.back().finished();
  EXPECT_EQ(finished.reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(finished.stop_token_id(), static_cast<uint32_t>(FakeTextCodec::kEnd));
  EXPECT_EQ(finished.usage().prompt_tokens(), 6u);
  EXPECT_EQ(finished.usage().completion_tokens(), 3u);
  EXPECT_TRUE(WaitForMetric(R"(sheaf_requests_total{face="grpc",outcome="stop"} 1)"));
  EXPECT_TRUE(WaitForMetric(R"(sheaf_connections{face="grpc"} 0)"));
}

TEST_F(GrpcServerTest, SeedOfARequestWithoutOneIsTold) {
  api_.engine.SetAnswer(AnswerWith("a"));
  const Result result = Generate(Hello());
  EXPECT_EQ(result.messages.front().prompt().seed(), api_.engine.request(0).sampling.seed);
}

TEST_F(GrpcServerTest, ZeroIsNotUnset) {
  api_.engine.SetAnswer(AnswerWith("a"));
  api_.model.config.generation.temperature = 0.6f;
  v1::GenerateRequest request = Hello();
  ASSERT_TRUE(Generate(request).status.ok());
  EXPECT_EQ(api_.engine.request(0).sampling.temperature, 0.6f);
  request.mutable_sampling()->set_temperature(0);
  ASSERT_TRUE(Generate(request).status.ok());
  EXPECT_EQ(api_.engine.request(1).sampling.temperature, 0.0f);
}

TEST_F(GrpcServerTest, EveryOptionArrives) {
  api_.engine.SetAnswer(AnswerWith("a"));
  v1::GenerateRequest request;
  request.mutable_token_ids()->add_ids(3);
  auto* sampling = request.mutable_sampling();
  sampling->set_top_p(0.5f);
  sampling->set_top_k(7);
  sampling->set_min_p(0.25f);
  sampling->set_repetition_penalty(1.5f);
  sampling->set_frequency_penalty(0.5f);
  sampling->set_presence_penalty(-0.5f);
  (*sampling->mutable_logit_bias())[9] = 2.0f;
  sampling->add_allowed_token_ids(11);
  auto* stop = request.mutable_stop();
  stop->set_max_tokens(5);
  stop->set_min_tokens(2);
  stop->add_stop("END");
  stop->add_stop_token_ids(12);
  stop->set_ignore_eos(true);
  stop->set_include_stop_string(true);
  request.mutable_output()->set_skip_special_tokens(false);
  ASSERT_TRUE(Generate(request).status.ok());
  const GenerationRequest got = api_.engine.request(0);
  EXPECT_THAT(got.prompt, ElementsAre(3));
  EXPECT_EQ(got.sampling.top_p, 0.5f);
  EXPECT_EQ(got.sampling.top_k, 7);
  EXPECT_EQ(got.sampling.min_p, 0.25f);
  EXPECT_EQ(got.sampling.repetition_penalty, 1.5f);
  EXPECT_EQ(got.sampling.frequency_penalty, 0.5f);
  EXPECT_EQ(got.sampling.presence_penalty, -0.5f);
  EXPECT_THAT(got.sampling.logit_bias, ElementsAre(std::pair(9, 2.0f)));
  EXPECT_THAT(got.sampling.allowed_token_ids, ElementsAre(11));
  EXPECT_EQ(got.stop.max_tokens, 5);
  EXPECT_EQ(got.stop.min_tokens, 2);
  EXPECT_THAT(got.stop.stop_strings, ElementsAre("END"));
  EXPECT_THAT(got.stop.stop_token_ids, ElementsAre(12));
  EXPECT_TRUE(got.stop.ignore_eos && got.stop.include_stop_string);
  EXPECT_FALSE(got.skip_special_tokens);
}

TEST_F(GrpcServerTest, Chat) {
  api_.engine.SetAnswer(AnswerWith("a"));
  v1::GenerateRequest request;
  auto* message = request.mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content("hi \"there\"");
  request.mutable_chat()->set_template_arguments_json(R"({"enable_thinking":false})");
  ASSERT_TRUE(Generate(request).status.ok());
  const GenerationRequest got = api_.engine.request(0);
  EXPECT_EQ(std::string(got.prompt.begin(), got.prompt.end()),
            "user: hi \"there\"\n{\"enable_thinking\":false}\nassistant: ");
}

TEST_F(GrpcServerTest, Logprobs) {
  api_.engine.SetAnswer(AnswerWith("a"));
  v1::GenerateRequest request;
  request.mutable_token_ids()->add_ids('x');
  request.mutable_token_ids()->add_ids('y');
  request.mutable_output()->set_logprobs(2);
  request.mutable_output()->set_prompt_logprobs(1);
  const Result result = Generate(request);
  ASSERT_TRUE(result.status.ok());
  std::vector<v1::TokenLogprobs> prompt;
  std::vector<v1::TokenLogprobs> tokens;
  for (const auto& message : result.messages) {
    const auto& delta = message.delta();
    prompt.insert(prompt.end(), delta.prompt_logprobs().begin(), delta.prompt_logprobs().end());
    tokens.insert(tokens.end(), delta.logprobs().begin(), delta.logprobs().end());
  }
  ASSERT_EQ(prompt.size(), 2u);
  EXPECT_FALSE(prompt[0].has_chosen());
  EXPECT_EQ(prompt[1].chosen().token_bytes(), "y");
  ASSERT_EQ(tokens.size(), 1u);
  EXPECT_EQ(tokens[0].chosen().logprob(), -0.5f);
  ASSERT_EQ(tokens[0].top_size(), 2);
  EXPECT_EQ(tokens[0].top(1).rank(), 2u);
}

TEST_F(GrpcServerTest, WrongFieldsAreViolationsWithPaths) {
  v1::GenerateRequest request = Hello();
  request.mutable_sampling()->set_top_p(std::numeric_limits<float>::quiet_NaN());
  request.mutable_sampling()->set_temperature(-1);
  request.mutable_stop()->set_max_tokens(0);
  const Result result = Generate(request);
  EXPECT_EQ(result.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_TRUE(result.messages.empty());
  const auto bad = DetailOf<google::rpc::BadRequest>(result.status);
  std::vector<std::string> fields;
  for (const auto& violation : bad.field_violations()) fields.push_back(violation.field());
  EXPECT_THAT(fields, ElementsAre("sampling.temperature", "sampling.top_p", "stop.max_tokens"));
  EXPECT_THAT(bad.field_violations(1).description(), HasSubstr("got nan"));
  EXPECT_EQ(DetailOf<google::rpc::ErrorInfo>(result.status).domain(), "sheaf");
  EXPECT_EQ(api_.engine.submitted(), 0u);
}

TEST_F(GrpcServerTest, MissingInputAndUnknownModel) {
  EXPECT_EQ(Generate({}).status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  v1::GenerateRequest request = Hello();
  request.set_model("gpt-9");
  EXPECT_EQ(Generate(request).status.error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(GrpcServerTest, FullQueueSaysWhenToComeBack) {
  api_.engine.SetSubmitError(absl::ResourceExhaustedError("8 requests wait"));
  grpc::ClientContext context;
  const Result result = Generate(Hello(), &context);
  EXPECT_EQ(result.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  const auto retry = DetailOf<google::rpc::RetryInfo>(result.status);
  EXPECT_EQ(retry.retry_delay().seconds(), 1);
  EXPECT_EQ(retry.retry_delay().nanos(), 500000000);
  const auto& trailers = context.GetServerTrailingMetadata();
  const auto pushback = trailers.find("grpc-retry-pushback-ms");
  ASSERT_NE(pushback, trailers.end());
  EXPECT_EQ(std::string(pushback->second.data(), pushback->second.size()), "1500");
}

TEST_F(GrpcServerTest, FailureAfterTokensIsTheStatus) {
  api_.engine.SetAnswer([](const GenerationRequest&, GenerationSink& sink) {
    sink.OnToken(ByteToken('x'));
    GenerationEnd end;
    end.reason = FinishReason::kError;
    end.status = absl::UnavailableError("worker 2 does not answer");
    sink.OnEnd(end);
  });
  const Result result = Generate(Hello());
  EXPECT_EQ(result.status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(result.status.error_message(), "worker 2 does not answer");
  for (const auto& message : result.messages) EXPECT_FALSE(message.has_finished());
}

TEST_F(GrpcServerTest, CancelReachesTheEngine) {
  grpc::ClientContext context;
  auto reader = stub_->Generate(&context, Hello());
  ASSERT_TRUE(api_.engine.WaitForSubmit(0));
  api_.engine.Emit(0, ByteToken('x'));
  v1::GenerateResponse message;
  ASSERT_TRUE(reader->Read(&message));
  context.TryCancel();
  EXPECT_TRUE(api_.engine.WaitForCancel(0));
  while (reader->Read(&message)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(WaitForMetric(R"(sheaf_requests_total{face="grpc",outcome="cancelled"} 1)"));
  EXPECT_TRUE(WaitForMetric(R"(sheaf_connections{face="grpc"} 0)"));
}

TEST_F(GrpcServerTest, DeadlineReachesTheEngineAndEndsTheCall) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(200));
  const Result result = Generate(Hello(), &context);
  EXPECT_EQ(result.status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  ASSERT_TRUE(api_.engine.WaitForCancel(0));
  const auto deadline = api_.engine.request(0).deadline;
  ASSERT_TRUE(deadline.has_value());
  EXPECT_LT(*deadline, api_.clock.Now() + std::chrono::seconds(1));
  EXPECT_TRUE(WaitForMetric(R"(sheaf_requests_total{face="grpc",outcome="deadline"} 1)"));
}

TEST_F(GrpcServerTest, NoDeadlineIsNoDeadline) {
  api_.engine.SetAnswer(AnswerWith("a"));
  ASSERT_TRUE(Generate(Hello()).status.ok());
  EXPECT_FALSE(api_.engine.request(0).deadline.has_value());
}

TEST_F(GrpcServerTest, ClientThatDoesNotReadIsCutOff) {
  api_.limits.max_unsent_bytes = 1 << 20;
  grpc::ClientContext context;
  auto reader = stub_->Generate(&context, Hello());
  ASSERT_TRUE(api_.engine.WaitForSubmit(0));
  TokenEvent event = ByteToken('x');
  event.text = std::string(100000, 'y');
  bool running = true;
  for (int i = 0; i < 10000 && running; ++i) running = api_.engine.Emit(0, event);
  EXPECT_TRUE(api_.engine.WaitForCancel(0));
  EXPECT_TRUE(WaitForMetric(R"(sheaf_requests_total{face="grpc",outcome="rejected"} 1)"));
  v1::GenerateResponse message;
  while (reader->Read(&message)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST_F(GrpcServerTest, LongPromptsPassTheDefaultMessageLimit) {
  v1::GenerateRequest request;
  request.mutable_token_ids()->mutable_ids()->Resize(3 << 20, 200);  // 6 MiB
  const Result result = Generate(request);
  EXPECT_EQ(result.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(result.status.error_message(), HasSubstr("maximum context length is 512"));
}

TEST_F(GrpcServerTest, TokenizeDetokenizeModelInfo) {
  grpc::ClientContext context[4];
  v1::TokenizeRequest tokenize;
  tokenize.set_text("ab");
  v1::TokenizeResponse tokens;
  ASSERT_TRUE(stub_->Tokenize(&context[0], tokenize, &tokens).ok());
  EXPECT_THAT(tokens.token_ids(), ElementsAre(257, 'a', 'b'));
  EXPECT_EQ(tokens.max_model_len(), 512u);

  v1::DetokenizeRequest detokenize;
  detokenize.add_token_ids('a');
  detokenize.add_token_ids(FakeTextCodec::kEnd);
  v1::DetokenizeResponse text;
  ASSERT_TRUE(stub_->Detokenize(&context[1], detokenize, &text).ok());
  EXPECT_EQ(text.text(), "a<end>");
  detokenize.add_token_ids(4000000000u);
  const grpc::Status outside = stub_->Detokenize(&context[2], detokenize, &text);
  EXPECT_EQ(outside.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(DetailOf<google::rpc::BadRequest>(outside).field_violations(0).field(), "token_ids");

  v1::GetModelInfoResponse info;
  ASSERT_TRUE(stub_->GetModelInfo(&context[3], {}, &info).ok());
  EXPECT_THAT(info.served_names(), ElementsAre("glm-nano", "alias"));
  EXPECT_EQ(info.vocab_size(), 260u);
  EXPECT_EQ(info.max_logprobs(), 20);
  EXPECT_TRUE(info.ready());
  EXPECT_TRUE(info.chat_supported());
}

TEST_F(GrpcServerTest, StopWithoutPatienceCancels) {
  grpc::ClientContext context;
  auto reader = stub_->Generate(&context, Hello());
  ASSERT_TRUE(api_.engine.WaitForSubmit(0));
  server_->Stop(std::chrono::milliseconds(0));
  EXPECT_TRUE(api_.engine.WaitForCancel(0));
  v1::GenerateResponse message;
  while (reader->Read(&message)) {
  }
  EXPECT_FALSE(reader->Finish().ok());
}

TEST_F(GrpcServerTest, BusyPortIsAnError) {
  GrpcServerOptions options;
  options.port = server_->port();
  auto other = MakeInferenceService(api_.context);
  const auto second = GrpcServer::Start(options, api_.engine, {other.get()});
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(std::to_string(server_->port())));
}

TEST_F(GrpcServerTest, ManyStreamsAtOnce) {
  api_.engine.SetAnswer(AnswerWith("0123456789"));
  std::vector<std::thread> clients;
  std::atomic<int> good{0};
  for (int c = 0; c < 8; ++c) {
    clients.emplace_back([&] {
      for (int i = 0; i < 25; ++i) {
        const Result result = Generate(Hello());
        if (result.status.ok() && result.text() == "0123456789") ++good;
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(good, 200);
}

}  // namespace
}  // namespace sheaf
