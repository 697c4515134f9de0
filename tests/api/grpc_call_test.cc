// A call's life on the wire: undecodable bytes, deadlines, cancellation at any moment.
#include <latch>
#include <random>
#include <thread>

#include "gmock/gmock.h"
#include "grpcpp/generic/generic_stub.h"
#include "gtest/gtest.h"
#include "tests/api/grpc_fixture.h"

namespace sheaf {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

class GrpcCallTest : public GrpcFixture {
 protected:
  // Bytes as a unary call. Generate answers one too, as it never sends more than a status here.
  grpc::Status CallWithBytes(const std::string& method, const std::string& bytes) {
    grpc::GenericStub stub(channel_);
    grpc::CompletionQueue queue;
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
    const grpc::Slice slice(bytes);
    auto call = stub.PrepareUnaryCall(&context, "/sheaf.v1.Inference/" + method,
                                      grpc::ByteBuffer(&slice, 1), &queue);
    call->StartCall();
    grpc::ByteBuffer response;
    grpc::Status status;
    call->Finish(&response, &status, nullptr);
    void* tag = nullptr;
    bool ok = false;
    EXPECT_TRUE(queue.Next(&tag, &ok) && ok);
    return status;
  }

  // Tasks that keep all threads of the pool busy until the latch opens.
  void BlockPreparation(std::shared_ptr<std::latch> open) {
    for (int i = 0; i < 2; ++i) {
      ASSERT_TRUE(api_.preparation.TrySubmit(PreparationLane::kOrdinary, [open] { open->wait(); }));
    }
  }
};

TEST_F(GrpcCallTest, UndecodableRequestsAreInvalidAndSaySo) {
  v1::GenerateRequest cut;
  cut.set_text(std::string(100, 'x'));
  const std::string truncated = cut.SerializeAsString().substr(0, 50);
  for (const auto& [method, bytes] : std::vector<std::pair<std::string, std::string>>{
           {"Generate", truncated},  // and names of models that are not UTF-8
           {"Generate", "\x12\x02\xC3\x28"},
           {"Tokenize", "\x0A\x02\xC3\x28"},
           {"Detokenize", "\x0A\x02\xC3\x28"},
           {"Detokenize", "\xFF"},
           {"GetModelInfo", "\x0A\x02\xC3\x28"}}) {
    SCOPED_TRACE(method);
    const grpc::Status status = CallWithBytes(method, bytes);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_THAT(status.error_message(), HasSubstr("is not a sheaf.v1." + method + "Request"));
    EXPECT_EQ(DetailOf<google::rpc::ErrorInfo>(status).reason(), "INVALID_REQUEST");
  }
  EXPECT_TRUE(WaitForMetric(R"(sheaf_requests_total{face="grpc",outcome="invalid"} 2)"));
}

TEST_F(GrpcCallTest, UnparsableToolParametersAreAViolation) {
  v1::GenerateRequest request;
  auto* message = request.mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content("hi");
  request.mutable_chat()->add_tools()->set_name("f");
  request.mutable_chat()->mutable_tools(0)->set_parameters_json("{");
  const Result result = Generate(request);
  EXPECT_EQ(result.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(DetailOf<google::rpc::BadRequest>(result.status).field_violations(0).field(),
            "chat.tools[0].parameters_json");
  EXPECT_TRUE(WaitForMetric(R"(sheaf_requests_total{face="grpc",outcome="invalid"} 1)"));
  EXPECT_EQ(api_.engine.submitted(), 0u);
}

TEST_F(GrpcCallTest, ChatWithToolsOnTheWire) {
  api_.codec.format.tools = TagFormat::kGlm45;
  api_.codec.format.reasoning = TagFormat::kGlm45;
  api_.engine.SetAnswer(AnswerWith("<think>hm</think>\n<tool_call>f\n</tool_call>"));
  v1::GenerateRequest request;
  auto* message = request.mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content("hi");
  request.mutable_chat()->add_tools()->set_name("f");
  const Result result = Generate(request);
  ASSERT_TRUE(result.status.ok()) << result.status.error_message();
  std::string reasoning, name, arguments;
  for (const auto& response : result.messages) {
    reasoning += response.delta().reasoning();
    for (const auto& call : response.delta().tool_calls()) {
      name += call.name();
      arguments += call.arguments_json();
    }
  }
  EXPECT_EQ(reasoning, "hm");
  EXPECT_EQ(name, "f");
  EXPECT_EQ(arguments, "{}");
  EXPECT_EQ(result.messages.back().finished().reason(), v1::FINISH_REASON_TOOL_CALLS);
}

// The client's own timer may win on a machine that stalls, so there are several attempts.
template <typename Attempt>
void ExpectTheServerEndsTheCall(Attempt attempt) {
  std::string last;
  for (int i = 0; i < 5; ++i) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + milliseconds(300));
    const grpc::Status status = attempt(context);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
    last = status.error_message();
    if (last == "the call's deadline passed") return;
  }
  FAIL() << "the client's timer was first each time: " << last;
}

TEST_F(GrpcCallTest, TheServerEndsLateGenerationsItself) {
  ExpectTheServerEndsTheCall(
      [&](grpc::ClientContext& context) { return Generate(Hello(), &context).status; });
  for (size_t i = 0; i < api_.engine.submitted(); ++i) EXPECT_TRUE(api_.engine.WaitForCancel(i));
}

TEST_F(GrpcCallTest, TheServerEndsCallsThatWaitInPreparation) {
  const auto open = std::make_shared<std::latch>(1);
  BlockPreparation(open);
  ExpectTheServerEndsTheCall(
      [&](grpc::ClientContext& context) { return Generate(Hello(), &context).status; });
  ExpectTheServerEndsTheCall([&](grpc::ClientContext& context) {
    v1::TokenizeRequest request;
    request.set_text("a");
    v1::TokenizeResponse response;
    return stub_->Tokenize(&context, request, &response);
  });
  open->count_down();
  EXPECT_TRUE(WaitForMetric(R"(sheaf_connections{face="grpc"} 0)"));
  EXPECT_EQ(api_.engine.submitted(), 0u);
}

TEST_F(GrpcCallTest, CancelledWhileItWaitsInPreparation) {
  const auto open = std::make_shared<std::latch>(1);
  BlockPreparation(open);
  grpc::ClientContext context;
  auto reader = stub_->Generate(&context, Hello());
  ASSERT_TRUE(WaitForMetric(R"(sheaf_connections{face="grpc"} 1)"));
  context.TryCancel();
  v1::GenerateResponse message;
  EXPECT_FALSE(reader->Read(&message));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  // Stop waits for calls under way: this one is over although its preparation has not begun.
  const auto start = std::chrono::steady_clock::now();
  server_->Stop(std::chrono::seconds(60));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(30));
  open->count_down();
  EXPECT_TRUE(WaitForMetric(R"(sheaf_requests_total{face="grpc",outcome="cancelled"} 1)"));
  // The server may hear of it only when the call has left the pool.
  for (size_t i = 0; i < api_.engine.submitted(); ++i) EXPECT_TRUE(api_.engine.WaitForCancel(i));
}

// A write after Finish, or two at once, makes gRPC abort the process.
TEST_F(GrpcCallTest, CancelAtAnyMoment) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  constexpr int kThreads = 4;
  constexpr int kCalls = 2500;  // each, or as many as the time allows
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  std::atomic<int> calls{0};
  std::atomic<bool> done{false};
  std::jthread engine([&] {
    size_t first = 0;
    while (!done) {
      const size_t submitted = api_.engine.submitted();
      for (size_t i = first; i < submitted; ++i) {
        if (!api_.engine.Emit(i, ByteToken('x')) && i == first) ++first;
      }
      std::this_thread::yield();
    }
  });
  std::vector<std::jthread> clients;
  for (int t = 0; t < kThreads; ++t) {
    clients.emplace_back([&, t] {
      std::mt19937_64 random(seed + static_cast<uint64_t>(t));
      for (int i = 0; i < kCalls && std::chrono::steady_clock::now() < end; ++i) {
        ++calls;
        grpc::ClientContext context;
        // A few of them are over by their deadline.
        if (random() % 8 == 0) {
          context.set_deadline(std::chrono::system_clock::now() + milliseconds(1 + random() % 20));
        }
        auto reader = stub_->Generate(&context, Hello());
        v1::GenerateResponse message;
        for (uint64_t reads = random() % 4; reads > 0 && reader->Read(&message);) --reads;
        {
          std::jthread canceller([&context, yields = random() % 200] {
            for (uint64_t y = 0; y < yields; ++y) std::this_thread::yield();
            context.TryCancel();
          });
          while (reader->Read(&message)) {
          }
        }
        EXPECT_FALSE(reader->Finish().ok());
      }
    });
  }
  clients.clear();  // joins
  EXPECT_TRUE(WaitForMetric(R"(sheaf_connections{face="grpc"} 0)"));
  done = true;
  engine.join();
  EXPECT_GT(calls, 100);
  for (size_t i = 0; i < api_.engine.submitted(); ++i) EXPECT_TRUE(api_.engine.WaitForCancel(i));
}

// The drop is asked for by the name that gRPC gives the peer.
TEST_F(GrpcCallTest, AClientThatKeepsLeavingLosesItsConnection) {
  server_.reset();
  const ManualClock still;  // so the budget is its burst
  ConnectionResets resets(still);
  service_ = MakeInferenceService(api_.context, &resets);
  auto server = GrpcServer::Start({.resets = &resets}, api_.engine, {service_.get()});
  ASSERT_TRUE(server.ok()) << server.status();
  server_ = *std::move(server);
  const auto other = v1::Inference::NewStub(Channel());
  grpc::ClientContext other_context;
  auto other_reader = other->Generate(&other_context, Hello());
  ASSERT_TRUE(api_.engine.WaitForSubmit(0));
  channel_ = Channel();
  stub_ = v1::Inference::NewStub(channel_);
  for (size_t i = 1; i <= static_cast<size_t>(ConnectionResets::kBurst) + 1; ++i) {
    grpc::ClientContext context;
    auto reader = stub_->Generate(&context, Hello());
    ASSERT_TRUE(api_.engine.WaitForSubmit(i));  // else it may be over before the server hears of it
    context.TryCancel();
    reader->Finish();
  }
  // Nobody connects again without a call.
  EXPECT_TRUE(channel_->WaitForStateChange(
      GRPC_CHANNEL_READY, std::chrono::system_clock::now() + std::chrono::seconds(60)));
  api_.engine.Emit(0, ByteToken('x'));  // somebody else's call goes on
  v1::GenerateResponse message;
  EXPECT_TRUE(other_reader->Read(&message));
  other_context.TryCancel();
  server_.reset();
}

TEST_F(GrpcCallTest, CallsWhoseClientLeftAreCounted) {
  for (int i = 1; i <= 3; ++i) {
    grpc::ClientContext context;
    auto reader = stub_->Generate(&context, Hello());
    ASSERT_TRUE(api_.engine.WaitForSubmit(static_cast<size_t>(i - 1)));
    context.TryCancel();
    EXPECT_FALSE(reader->Finish().ok());
    EXPECT_TRUE(WaitForMetric("sheaf_call_resets_total " + std::to_string(i)));
  }
  api_.engine.SetAnswer(AnswerWith("a"));
  EXPECT_TRUE(Generate(Hello()).status.ok());
  EXPECT_TRUE(WaitForMetric(R"(sheaf_requests_total{face="grpc",outcome="stop"} 1)"));
  EXPECT_TRUE(WaitForMetric("sheaf_call_resets_total 3"));
}

}  // namespace
}  // namespace sheaf
