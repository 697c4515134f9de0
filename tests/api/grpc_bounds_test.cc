// The same bounds on the gRPC face.
#include <latch>

#include "gmock/gmock.h"
#include "tests/api/grpc_fixture.h"

namespace sheaf {
namespace {

using testing::HasSubstr;

class GrpcBounds : public GrpcFixture {
 protected:
  void SetUp() override {
    api_.codec.longest_token = 4;
    api_.budget.emplace(
        ByteBudget::Options{.total_bytes = 40'000, .reserve_bytes = 1000, .small_bytes = 500});
    api_.context.request_bytes = &*api_.budget;
    GrpcFixture::SetUp();
  }

  static v1::GenerateRequest Chat(size_t bytes) {
    v1::GenerateRequest request;
    auto* message = request.mutable_chat()->add_messages();
    message->set_role("user");
    message->set_content(std::string(bytes, 'x'));
    return request;
  }
  grpc::Status Tokenize(const v1::TokenizeRequest& request) {
    grpc::ClientContext context;
    v1::TokenizeResponse response;
    return stub_->Tokenize(&context, request, &response);
  }

  size_t used_bytes() { return api_.budget->used_bytes(); }
};

TEST_F(GrpcBounds, TextThatCannotFitIsNeverTokenized) {
  v1::GenerateRequest text;
  text.set_text(std::string(512 * 4 + 1, 'x'));
  v1::TokenizeRequest tokenize_text;
  tokenize_text.set_text(text.text());
  v1::TokenizeRequest tokenize_chat;
  *tokenize_chat.mutable_chat() = Chat(512 * 4 + 1).chat();
  for (const grpc::Status& status :
       {Generate(text).status, Generate(Chat(512 * 4 + 1)).status, Tokenize(tokenize_text),
        Tokenize(tokenize_chat)}) {
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_THAT(status.error_message(), HasSubstr("maximum context length is 512 tokens"));
  }
  EXPECT_EQ(api_.codec.encoded, 0);
}

TEST_F(GrpcBounds, RequestsWithoutRoomAreRefusedAtOnce) {
  const auto open = std::make_shared<std::latch>(1);
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(api_.preparation.TrySubmit(PreparationLane::kOrdinary, [open] { open->wait(); }));
  }
  std::jthread first([&] { (void)Generate(Chat(30'000)); });
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (used_bytes() < 30'000 && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::yield();
  }
  v1::TokenizeRequest tokenize;
  tokenize.set_text(std::string(10'000, 'x'));
  for (const grpc::Status& status : {Generate(Chat(10'000)).status, Tokenize(tokenize)}) {
    EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
    EXPECT_THAT(status.error_message(), HasSubstr("too many bytes of requests"));
    EXPECT_GT(DetailOf<google::rpc::RetryInfo>(status).retry_delay().seconds(), 0);
  }
  open->count_down();
  first.join();
  while (used_bytes() > 0 && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::yield();
  }
  EXPECT_EQ(used_bytes(), 0u);
}

TEST_F(GrpcBounds, OrderFieldsReachTheEngine) {
  api_.engine.SetAnswer(AnswerWith("a"));
  v1::GenerateRequest request = Hello();
  request.set_priority(-7);
  request.set_cache_salt("abc");
  grpc::ClientContext context;
  context.AddMetadata("x-fairness-key", "team");
  ASSERT_TRUE(Generate(request, &context).status.ok());
  EXPECT_EQ(api_.engine.request(0).priority, -7);
  EXPECT_EQ(api_.engine.request(0).cache_salt, "abc");
  EXPECT_EQ(api_.engine.request(0).fairness_key, "key:team");
  grpc::ClientContext with_key;
  with_key.AddMetadata("authorization", "Bearer sk-1");
  ASSERT_TRUE(Generate(Hello(), &with_key).status.ok());
  EXPECT_EQ(api_.engine.request(1).fairness_key.substr(0, 4), "api:");
  EXPECT_EQ(api_.engine.request(1).priority, 0);
}

TEST_F(GrpcBounds, AnErrorOfManyFaultsFitsTheHeaders) {
  v1::GenerateRequest request = Chat(3);
  for (int i = 0; i < 200; ++i) {
    request.mutable_chat()->add_tools()->set_name(std::string(100, '!'));
  }
  const Result result = Generate(request);
  EXPECT_EQ(result.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_LT(result.status.error_message().size(), 1100u);
  EXPECT_GT(DetailOf<google::rpc::BadRequest>(result.status).field_violations_size(), 2);
}

}  // namespace
}  // namespace sheaf
