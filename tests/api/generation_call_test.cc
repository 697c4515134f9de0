// A call between engine and face: nothing lost, nothing unbounded, everything cancelled and counted
// once.
#include "router/api/generation/generation_call.h"

#include <atomic>
#include <future>
#include <thread>

#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/api/api_fixture.h"

namespace sheaf {
namespace {

using testing::HasSubstr;

class GenerationCallTest : public testing::Test {
 protected:
  std::shared_ptr<GenerationCall> Start(size_t choices = 1) {
    std::vector<GenerationRequest> requests(choices);
    for (auto& request : requests) request.prompt = {1, 2};
    auto call = GenerationCall::Start(api_.context.services(), RequestFace::kGrpc, api_.clock.Now(),
                                      std::move(requests));
    if (auto* error = std::get_if<ApiError>(&call)) {
      ADD_FAILURE() << error->status;
      return nullptr;
    }
    return std::get<std::shared_ptr<GenerationCall>>(call);
  }
  GenerationEnd End(FinishReason reason) { return EndOf(api_.engine.request(0), reason, 1); }
  std::string Count(const char* outcome, int count) {
    return std::string("sheaf_requests_total{face=\"grpc\",outcome=\"") + outcome + "\"} " +
           std::to_string(count) + "\n";
  }

  ApiFixture api_;
};

TEST_F(GenerationCallTest, EventsInOrderThenTheEnd) {
  auto call = Start(2);
  api_.engine.Emit(0, ByteToken('a'));
  api_.engine.Emit(1, ByteToken('b'));
  api_.engine.Emit(0, ByteToken('c'));
  GenerationCall::Batch batch = call->Take();
  ASSERT_EQ(batch.events.size(), 3u);
  EXPECT_EQ(batch.events[1].choice, 1);
  EXPECT_EQ(std::get<TokenEvent>(batch.events[2].what).text, "c");
  EXPECT_FALSE(batch.ended);
  api_.engine.End(0, End(FinishReason::kStop));
  EXPECT_FALSE(call->Take().ended);
  api_.engine.End(1, End(FinishReason::kLength));
  EXPECT_TRUE(call->Take().ended);
  // One token of two ends by length: the request counts as such, once, and is not cancelled after
  // its end.
  call->Abandon(RequestOutcome::kCancelled);
  EXPECT_THAT(api_.Metrics(), HasSubstr(Count("length", 1)));
  EXPECT_THAT(api_.Metrics(), HasSubstr(Count("cancelled", 0)));
  EXPECT_THAT(api_.Metrics(), HasSubstr("sheaf_time_to_first_token_seconds_count 2\n"));
  EXPECT_THAT(api_.Metrics(), HasSubstr("sheaf_inter_token_latency_seconds_count 1\n"));
}

TEST_F(GenerationCallTest, WakesOffTheStepThread) {
  auto call = Start();
  std::promise<std::thread::id> woken;
  std::atomic<bool> first{true};
  api_.engine.Emit(0, ByteToken('a'));  // before anyone listens: must not be lost
  call->SetWake([&] {
    if (first.exchange(false)) woken.set_value(std::this_thread::get_id());
  });
  auto thread = woken.get_future();
  ASSERT_EQ(thread.wait_for(std::chrono::seconds(10)), std::future_status::ready);
  EXPECT_NE(thread.get(), std::this_thread::get_id());
  call->Abandon(RequestOutcome::kCancelled);
}

TEST_F(GenerationCallTest, WhoWantsTheWholeIsWokenForMuchAndForTheEnd) {
  auto call = Start();
  std::atomic<int> wakes{0};
  absl::Notification ended, much;
  call->SetWake(
      [&] {
        ++wakes;
        GenerationCall::Batch batch;
        do {
          batch = call->Take();
          for (const ChoiceEvent& event : batch.events) {
            const auto* token = std::get_if<TokenEvent>(&event.what);
            if (token != nullptr && token->text.size() > 1) much.Notify();
          }
        } while (batch.more);
        if (batch.ended) ended.Notify();
      },
      GenerationCall::WakeFor::kMuch);
  for (int i = 0; i < 100; ++i) api_.engine.Emit(0, ByteToken('a'));
  TokenEvent event = ByteToken('a');
  event.text = std::string(GenerationCall::kTakeBytes, 'x');
  ASSERT_TRUE(api_.engine.Emit(0, event));
  ASSERT_TRUE(much.WaitForNotificationWithTimeout(absl::Seconds(30)));
  EXPECT_LE(wakes, 2) << "one may be of SetWake";
  for (int i = 0; i < 100; ++i) api_.engine.Emit(0, ByteToken('a'));
  api_.engine.End(0, End(FinishReason::kStop));
  EXPECT_TRUE(ended.WaitForNotificationWithTimeout(absl::Seconds(30)));
  EXPECT_LE(wakes, 3);
}

TEST_F(GenerationCallTest, AbandonCancelsWhatStillRuns) {
  auto call = Start(2);
  api_.engine.End(0, End(FinishReason::kStop));
  call->Abandon(RequestOutcome::kDeadline);
  EXPECT_TRUE(api_.engine.WaitForCancel(1));
  call->Abandon(RequestOutcome::kCancelled);
  EXPECT_THAT(api_.Metrics(), HasSubstr(Count("deadline", 1)));
  EXPECT_THAT(api_.Metrics(), HasSubstr(Count("cancelled", 0)));
}

TEST_F(GenerationCallTest, UnreadResultsAreBounded) {
  api_.limits.max_unsent_bytes = 10000;
  auto call = Start();
  TokenEvent event = ByteToken('a');
  event.text = std::string(20000, 'x');
  ASSERT_TRUE(api_.engine.Emit(0, event));
  EXPECT_EQ(call->Take().events.size(), 1u);  // one larger than the bound passes alone
  ASSERT_TRUE(api_.engine.Emit(0, event));
  ASSERT_TRUE(api_.engine.Emit(0, event));
  const GenerationCall::Batch batch = call->Take();
  ASSERT_TRUE(batch.error.has_value());
  EXPECT_EQ(batch.error->status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(batch.ended);
  EXPECT_TRUE(batch.events.empty());
  // Nobody had to take anything for that: the wake queue's thread cancels.
  EXPECT_TRUE(api_.engine.WaitForCancel(0));
  EXPECT_THAT(api_.Metrics(), HasSubstr(Count("rejected", 1)));
}

TEST_F(GenerationCallTest, MuchThatWaitsIsTakenInPieces) {
  auto call = Start();
  TokenEvent event = ByteToken('a');
  event.text = std::string(300'000, 'x');
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(api_.engine.Emit(0, event));
  api_.engine.End(0, End(FinishReason::kStop));
  int batches = 0;
  size_t events = 0;
  for (bool more = true; more; ++batches) {
    const GenerationCall::Batch batch = call->Take();
    EXPECT_LE(batch.events.size(), 4u);
    EXPECT_EQ(batch.ended, !batch.more) << "the end comes with the last";
    events += batch.events.size();
    more = batch.more;
  }
  EXPECT_EQ(events, 11u);
  EXPECT_GE(batches, 4);
}

TEST_F(GenerationCallTest, PromptLogprobsMayWaitForAClientThatReadsSlowly) {
  api_.limits.max_unsent_bytes = 10000;
  auto call = Start();
  TokenLogprobs entry;
  entry.top.resize(20);
  for (int piece = 0; piece < 10; ++piece) {
    api_.engine.EmitPromptLogprobs(0, piece * 100, PromptLogprobs(100, entry));
  }
  ASSERT_TRUE(api_.engine.Emit(0, ByteToken('a')));
  GenerationCall::Batch batch = call->Take();
  ASSERT_FALSE(batch.error.has_value()) << batch.error->status;
  size_t entries = 0;
  for (const ChoiceEvent& event : batch.events) {
    if (const auto* piece = std::get_if<PromptLogprobs>(&event.what)) entries += piece->size();
  }
  EXPECT_EQ(entries, 1000u);
  EXPECT_TRUE(std::holds_alternative<TokenEvent>(batch.events.back().what));
}

TEST_F(GenerationCallTest, EngineThatCancelsByItselfIsUnavailable) {
  auto call = Start();
  api_.engine.Emit(0, ByteToken('a'));
  GenerationEnd end;
  end.reason = FinishReason::kCancelled;
  api_.engine.End(0, end);
  const GenerationCall::Batch batch = call->Take();
  EXPECT_EQ(batch.events.size(), 1u);  // what came before is not lost
  ASSERT_TRUE(batch.error.has_value());
  EXPECT_EQ(batch.error->status.code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(batch.error->retry_after.has_value());
}

TEST_F(GenerationCallTest, RefusedSubmitHasARetryHint) {
  api_.engine.SetSubmitError(absl::ResourceExhaustedError("full"));
  auto call = GenerationCall::Start(api_.context.services(), RequestFace::kGrpc, api_.clock.Now(),
                                    std::vector<GenerationRequest>(1));
  ASSERT_TRUE(std::holds_alternative<ApiError>(call));
  EXPECT_EQ(std::get<ApiError>(call).retry_after, Duration(std::chrono::milliseconds(1500)));
  EXPECT_THAT(api_.Metrics(), HasSubstr(Count("rejected", 1)));
}

// What the log heard, with texts of its own.
class Heard final : public RequestLog {
 public:
  struct Line {
    std::string id, key;
    EndedRequest request;
    std::string response_id;
    std::vector<FinishReason> finish_reasons;
    std::string trace;
  };
  void Ended(const EndedRequest& request) override {
    lines.push_back({std::string(request.id), std::string(request.fairness_key), request,
                     std::string(request.response_id),
                     {request.finish_reasons.begin(), request.finish_reasons.end()},
                     request.trace == nullptr ? "" : FormatTraceparent(*request.trace)});
  }
  std::vector<Line> lines;
};

TEST_F(GenerationCallTest, TheLogHearsOfItOnceAtItsEnd) {
  Heard heard;
  GenerationCall::Services services = api_.context.services();
  services.log = &heard;
  // Two choices of one prompt, and one of another.
  GenerationRequest first, second;
  first.prompt = {1, 2, 3};
  second.prompt = {4, 5};
  first.request_id = "r-0";
  first.fairness_key = "key:a";
  auto started = GenerationCall::Start(services, RequestFace::kHttp, api_.clock.Now(),
                                       {first, first, second}, {.id = "r"});
  const auto call = std::get<std::shared_ptr<GenerationCall>>(started);
  api_.engine.Emit(0, ByteToken('a'));
  api_.engine.Emit(0, ByteToken('b'));
  api_.engine.Emit(1, ByteToken('c'));
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_TRUE(heard.lines.empty());
    GenerationEnd end = End(FinishReason::kStop);
    end.cached_tokens = 1;
    end.queued = std::chrono::milliseconds(10 * (i + 1));
    end.text = i == 2 ? "de" : "";
    api_.engine.End(i, end);
  }
  call->Abandon(RequestOutcome::kCancelled);
  ASSERT_EQ(heard.lines.size(), 1u);
  const Heard::Line& line = heard.lines.front();
  EXPECT_EQ(line.id, "r");
  EXPECT_EQ(line.key, "key:a");
  EXPECT_EQ(line.request.face, RequestFace::kHttp);
  EXPECT_EQ(line.request.outcome, RequestOutcome::kStop);
  EXPECT_EQ(line.request.choices, 3);
  EXPECT_EQ(line.request.prompt_tokens, 5) << "each prompt once";
  EXPECT_EQ(line.request.cached_tokens, 2) << "of the first choice of each prompt";
  EXPECT_EQ(line.request.output_tokens, 3);
  EXPECT_EQ(line.request.text_bytes, 5);
  EXPECT_EQ(line.request.queued, std::chrono::milliseconds(30));
  ASSERT_TRUE(line.request.first_token.has_value());
  EXPECT_LE(*line.request.first_token, line.request.total);
}

TEST_F(GenerationCallTest, TheLogHearsOfWhatATraceSays) {
  Heard heard;
  GenerationCall::Services services = api_.context.services();
  services.log = &heard;
  const std::string parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  GenerationRequest request;
  request.stop.max_tokens = 7;
  request.sampling.temperature = 0.5f;
  auto started = GenerationCall::Start(
      services, RequestFace::kHttp, api_.clock.Now(), {request, request},
      {.id = "r", .response_id = "chatcmpl-r", .chat = true, .trace = ParseTraceparent(parent)});
  const auto call = std::get<std::shared_ptr<GenerationCall>>(started);
  api_.engine.Admit(0, std::chrono::milliseconds(30));
  api_.engine.Emit(0, ByteToken('a'));
  api_.engine.End(1, End(FinishReason::kLength));
  call->Abandon(RequestOutcome::kCancelled);
  ASSERT_EQ(heard.lines.size(), 1u);
  const Heard::Line& line = heard.lines.front();
  EXPECT_EQ(line.response_id, "chatcmpl-r");
  EXPECT_EQ(line.trace, parent);
  EXPECT_EQ(line.finish_reasons, std::vector<FinishReason>{FinishReason::kLength});
  EXPECT_TRUE(line.request.chat);
  EXPECT_EQ(line.request.asked->max_tokens, 7);
  EXPECT_EQ(line.request.asked->temperature, 0.5f);
  EXPECT_TRUE(line.request.submitted.has_value());
  EXPECT_EQ(line.request.queued, std::chrono::milliseconds(30)) << "though it never ended";
}

TEST_F(GenerationCallTest, TheLogHearsOfWhatIsRefusedOrLeft) {
  Heard heard;
  GenerationCall::Services services = api_.context.services();
  services.log = &heard;
  auto left = GenerationCall::Start(services, RequestFace::kGrpc, api_.clock.Now(),
                                    std::vector<GenerationRequest>(1));
  std::get<std::shared_ptr<GenerationCall>>(left)->Abandon(RequestOutcome::kCancelled);
  api_.engine.SetSubmitError(absl::ResourceExhaustedError("full"));
  GenerationCall::Start(services, RequestFace::kGrpc, api_.clock.Now(),
                        std::vector<GenerationRequest>(1));
  ASSERT_EQ(heard.lines.size(), 2u);
  EXPECT_EQ(heard.lines[0].request.outcome, RequestOutcome::kCancelled);
  EXPECT_FALSE(heard.lines[0].request.first_token.has_value());
  EXPECT_EQ(heard.lines[1].request.outcome, RequestOutcome::kRejected);
}

}  // namespace
}  // namespace sheaf
