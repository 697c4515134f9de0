// Calls whose grammar takes long to compile, beside others.
#include <future>

#include "gmock/gmock.h"
#include "tests/api/compile_gate.h"
#include "tests/api/grpc_fixture.h"

namespace sheaf {
namespace {

using testing::HasSubstr;

class GrpcGuided : public GrpcFixture {
 protected:
  static v1::GenerateRequest Guided() {
    v1::GenerateRequest request = Hello();
    request.mutable_constraint()->set_regex("x*");
    return request;
  }
  std::future<Result> GenerateLater(const v1::GenerateRequest& request,
                                    grpc::ClientContext* context = nullptr) {
    return std::async(std::launch::async,
                      [this, request, context] { return Generate(request, context); });
  }
};

TEST_F(GrpcGuided, OthersAreServedWhileGrammarsAreCompiled) {
  api_.engine.SetAnswer(AnswerWith("xx"));
  CompileGate gate(api_.codec);
  auto first = GenerateLater(Guided());
  ASSERT_TRUE(gate.WaitForBegun(1));
  auto second = GenerateLater(Guided());
  for (int i = 0; i < 4; ++i) {  // more than the pool has threads
    EXPECT_EQ(Generate(Hello()).text(), "xx");
    v1::TokenizeRequest request;
    request.set_text("x");
    grpc::ClientContext context;
    v1::TokenizeResponse response;
    EXPECT_TRUE(stub_->Tokenize(&context, request, &response).ok());
  }
  EXPECT_EQ(gate.begun(), 1) << "two grammars at a time";
  gate.Open();
  EXPECT_EQ(first.get().text(), "xx");
  EXPECT_EQ(second.get().text(), "xx");
  EXPECT_EQ(api_.codec.compiled.size(), 2u);
}

TEST_F(GrpcGuided, AFullLaneRefusesGuidedCallsAlone) {
  api_.engine.SetAnswer(AnswerWith("xx"));
  CompileGate gate(api_.codec);
  auto first = GenerateLater(Guided());
  ASSERT_TRUE(gate.WaitForBegun(1));
  while (api_.preparation.TrySubmit(PreparationLane::kGuided, [] {})) {
  }
  const Result refused = Generate(Guided());
  EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(refused.status.error_message(), HasSubstr("too many requests are being prepared"));
  EXPECT_TRUE(WaitForMetric(R"(sheaf_requests_total{face="grpc",outcome="rejected"} 1)"));
  EXPECT_EQ(Generate(Hello()).text(), "xx");
  gate.Open();
  EXPECT_TRUE(first.get().status.ok());
}

// Whatever is under way when the client leaves, the call ends as cancelled and nothing runs on.
TEST_F(GrpcGuided, CallsCancelledWhileTheyWaitAreCountedAndGenerateNothing) {
  CompileGate gate(api_.codec);
  grpc::ClientContext contexts[2];
  std::future<Result> calls[2];
  for (int i = 0; i < 2; ++i) {
    calls[i] = GenerateLater(Guided(), &contexts[i]);
    ASSERT_TRUE(gate.WaitForBegun(1));
  }
  ASSERT_TRUE(WaitForMetric(R"(sheaf_connections{face="grpc"} 2)"));
  for (auto& context : contexts) context.TryCancel();
  for (auto& call : calls) {
    EXPECT_EQ(call.get().status.error_code(), grpc::StatusCode::CANCELLED);
  }
  gate.Open();
  EXPECT_TRUE(WaitForMetric(R"(sheaf_requests_total{face="grpc",outcome="cancelled"} 2)"));
  EXPECT_TRUE(WaitForMetric(R"(sheaf_connections{face="grpc"} 0)"));
  for (size_t i = 0; i < api_.engine.submitted(); ++i) EXPECT_TRUE(api_.engine.WaitForCancel(i));
}

}  // namespace
}  // namespace sheaf
