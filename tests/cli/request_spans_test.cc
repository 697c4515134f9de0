// A request that has ended, as spans.
#include "cli/router/request_spans.h"

#include <map>
#include <set>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace sheaf {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;

constexpr int64_t kEnd = 1'700'000'000'000'000'000;

TimePoint Ended() { return TimePoint(std::chrono::hours(1)); }

class RequestSpansTest : public testing::Test {
 protected:
  RequestSpansTest() {
    own_.trace_id.fill(7);
    parent_.trace_id.fill(9);
    parent_.span_id.fill(8);
    parent_.flags = TraceContext::kSampled;
    parent_.trace_state = "a=1";
  }
  EndedRequest Request() const {
    return {.face = RequestFace::kHttp,
            .outcome = RequestOutcome::kLength,
            .id = "mine",
            .fairness_key = "",
            .choices = 2,
            .prompt_tokens = 30,
            .cached_tokens = 16,
            .output_tokens = 12,
            .text_bytes = 40,
            .queued = milliseconds(20),
            .first_token = milliseconds(100),
            .total = milliseconds(1000),
            .chat = true,
            .response_id = "chatcmpl-1",
            .asked = AskedGeneration{64, 0.5f, 0.25f, 0},
            .submitted = milliseconds(10),
            .finish_reasons = reasons_};
  }
  std::vector<Span> Spans(const EndedRequest& request) {
    return RequestSpans(request, {.model = "glm",
                                  .dispatches = &history_,
                                  .ended = Ended(),
                                  .ended_unix_nanos = kEnd,
                                  .trace_id = own_.trace_id,
                                  .trace_flags = 3,
                                  .random = [this] { return ++random_; }});
  }
  static std::vector<std::string> Names(const std::vector<Span>& spans) {
    std::vector<std::string> names;
    for (const Span& span : spans) names.push_back(span.name);
    return names;
  }
  static std::map<std::string, decltype(SpanAttribute::value)> Attributes(const Span& span) {
    std::map<std::string, decltype(SpanAttribute::value)> map;
    for (const SpanAttribute& attribute : span.attributes) {
      EXPECT_TRUE(map.emplace(attribute.key, attribute.value).second) << attribute.key;
    }
    return map;
  }
  // Milliseconds since the arrival.
  static std::pair<double, double> Times(const Span& span) {
    const auto ms = [](int64_t nanos) { return static_cast<double>(nanos - kEnd) / 1e6 + 1000; };
    return {ms(span.start_unix_nanos), ms(span.end_unix_nanos)};
  }

  const std::vector<FinishReason> reasons_ = {FinishReason::kStop, FinishReason::kLength};
  TraceContext own_, parent_;
  DispatchHistory history_;
  uint64_t random_ = 0;
};

TEST_F(RequestSpansTest, ItsTimeIsDividedIntoPhases) {
  const std::vector<Span> spans = Spans(Request());
  ASSERT_THAT(Names(spans), ElementsAre("chat glm", "prepare", "queue", "prefill", "decode"));
  EXPECT_EQ(Times(spans[0]), std::pair(0.0, 1000.0));
  EXPECT_EQ(Times(spans[1]), std::pair(0.0, 10.0));
  EXPECT_EQ(Times(spans[2]), std::pair(10.0, 30.0));
  EXPECT_EQ(Times(spans[3]), std::pair(30.0, 100.0));
  EXPECT_EQ(Times(spans[4]), std::pair(100.0, 1000.0));
  std::set<SpanId> ids;
  for (const Span& span : spans) {
    EXPECT_EQ(span.trace_id, own_.trace_id);
    EXPECT_EQ(span.trace_flags, 3);
    ids.insert(span.span_id);
    EXPECT_EQ(span.parent_id, &span == &spans[0] ? SpanId{} : spans[0].span_id);
    EXPECT_FALSE(span.parent_is_elsewhere);
  }
  EXPECT_EQ(ids.size(), spans.size());
  EXPECT_EQ(spans[0].kind, SpanKind::kServer);
  EXPECT_EQ(spans[1].kind, SpanKind::kInternal);
}

TEST_F(RequestSpansTest, AClientsTraceGoesOn) {
  EndedRequest request = Request();
  request.trace = &parent_;
  for (const Span& span : Spans(request)) {
    EXPECT_EQ(span.trace_id, parent_.trace_id);
    EXPECT_EQ(span.trace_state, "a=1");
    EXPECT_EQ(span.trace_flags, TraceContext::kSampled);
    EXPECT_EQ(span.parent_is_elsewhere, span.kind == SpanKind::kServer);
    if (!span.parent_is_elsewhere) continue;
    EXPECT_EQ(span.parent_id, parent_.span_id);
  }
}

TEST_F(RequestSpansTest, TheAttributesAreThoseOfTheConventions) {
  const Span root = Spans(Request()).front();
  auto got = Attributes(root);
  using Texts = std::vector<std::string>;
  EXPECT_EQ(std::get<std::string>(got["gen_ai.operation.name"]), "chat");
  EXPECT_EQ(std::get<std::string>(got["gen_ai.provider.name"]), "sheaf");
  EXPECT_EQ(std::get<std::string>(got["gen_ai.request.model"]), "glm");
  EXPECT_EQ(std::get<int64_t>(got["gen_ai.request.max_tokens"]), 64);
  EXPECT_EQ(std::get<double>(got["gen_ai.request.temperature"]), 0.5);
  EXPECT_EQ(std::get<double>(got["gen_ai.request.top_p"]), 0.25);
  EXPECT_EQ(std::get<int64_t>(got["gen_ai.request.choice.count"]), 2);
  EXPECT_EQ(std::get<std::string>(got["gen_ai.response.id"]), "chatcmpl-1");
  EXPECT_EQ(std::get<std::string>(got["gen_ai.request.id"]), "mine");
  EXPECT_EQ(std::get<int64_t>(got["gen_ai.usage.input_tokens"]), 30);
  EXPECT_EQ(std::get<int64_t>(got["gen_ai.usage.output_tokens"]), 12);
  EXPECT_EQ(std::get<int64_t>(got["gen_ai.usage.cache_read.input_tokens"]), 16);
  EXPECT_EQ(std::get<Texts>(got["gen_ai.response.finish_reasons"]), (Texts{"stop", "length"}));
  EXPECT_DOUBLE_EQ(std::get<double>(got["gen_ai.latency.time_in_queue"]), 0.02);
  EXPECT_DOUBLE_EQ(std::get<double>(got["gen_ai.latency.time_to_first_token"]), 0.1);
  EXPECT_DOUBLE_EQ(std::get<double>(got["gen_ai.latency.e2e"]), 1.0);
  EXPECT_DOUBLE_EQ(std::get<double>(got["gen_ai.latency.time_in_model_prefill"]), 0.07);
  EXPECT_DOUBLE_EQ(std::get<double>(got["gen_ai.latency.time_in_model_decode"]), 0.9);
  EXPECT_DOUBLE_EQ(std::get<double>(got["gen_ai.latency.time_in_model_inference"]), 0.97);
  EXPECT_EQ(std::get<std::string>(got["sheaf.face"]), "http");
  EXPECT_EQ(std::get<std::string>(got["sheaf.key"]), "none");
  EXPECT_EQ(got.count("gen_ai.request.top_k"), 0u) << "all";
  EXPECT_EQ(got.count("error.type"), 0u);
  EXPECT_FALSE(root.failed);
}

TEST_F(RequestSpansTest, WhatWasRefusedHasOneSpan) {
  const EndedRequest refused{
      .outcome = RequestOutcome::kInvalid, .total = milliseconds(1), .trace = &parent_};
  const std::vector<Span> spans = Spans(refused);
  ASSERT_THAT(Names(spans), ElementsAre("text_completion glm"));
  auto got = Attributes(spans.front());
  EXPECT_EQ(std::get<std::string>(got["error.type"]), "invalid");
  EXPECT_EQ(got.count("gen_ai.usage.input_tokens"), 0u);
  EXPECT_FALSE(spans.front().failed) << "the client's fault";
}

TEST_F(RequestSpansTest, FailuresAreOurs) {
  const auto failed = [this](RequestOutcome outcome) {
    EndedRequest request = Request();
    request.outcome = outcome;
    return Spans(request).front().failed;
  };
  for (const RequestOutcome outcome : {RequestOutcome::kError, RequestOutcome::kUnavailable,
                                       RequestOutcome::kDeadline, RequestOutcome::kRejected}) {
    EXPECT_TRUE(failed(outcome)) << NameOf(outcome);
  }
  for (const RequestOutcome outcome : {RequestOutcome::kStop, RequestOutcome::kLength,
                                       RequestOutcome::kCancelled, RequestOutcome::kInvalid}) {
    EXPECT_FALSE(failed(outcome)) << NameOf(outcome);
  }
}

TEST_F(RequestSpansTest, PhasesThatDidNotBeginAreLeftOut) {
  EndedRequest request = Request();
  request.first_token.reset();
  EXPECT_THAT(Names(Spans(request)), ElementsAre("chat glm", "prepare", "queue"))
      << "its deadline passed while it waited";
  request.queued = milliseconds(0);
  EXPECT_THAT(Names(Spans(request)), ElementsAre("chat glm", "prepare"))
      << "left, and nobody knows where it was";
}

TEST_F(RequestSpansTest, WorkersAreNamedByPhase) {
  const TimePoint arrival = Ended() - milliseconds(1000);
  const auto step = [&](int begin, int end, std::vector<WorkerDispatches> workers) {
    history_.Add(arrival + milliseconds(begin), arrival + milliseconds(end), workers);
  };
  step(-50, 20, {{WorkerId(5), 1, 1, 1, 1}});  // another's
  step(30, 99, {{WorkerId(0), 2, 16, 0.06, 0.04}, {WorkerId(1), 2, 8, 0.03, 0.02}});
  step(110, 120, {{WorkerId(0), 2, 4, 0.01, 0.008}});
  step(120, 130, {{WorkerId(0), 2, 4, 0.02, 0.015}});
  const std::vector<Span> spans = Spans(Request());
  ASSERT_THAT(Names(spans),
              ElementsAre("chat glm", "prepare", "queue", "prefill", "dispatch worker 0",
                          "dispatch worker 1", "decode", "dispatch worker 0"));
  EXPECT_EQ(spans[4].parent_id, spans[3].span_id);
  EXPECT_EQ(spans[5].parent_id, spans[3].span_id);
  EXPECT_EQ(spans[7].parent_id, spans[6].span_id);
  EXPECT_EQ(spans[4].kind, SpanKind::kClient);
  EXPECT_EQ(Times(spans[4]), std::pair(30.0, 99.0));
  EXPECT_EQ(Times(spans[7]), std::pair(110.0, 130.0));
  auto got = Attributes(spans[7]);
  EXPECT_EQ(std::get<int64_t>(got["sheaf.worker"]), 0);
  EXPECT_EQ(std::get<int64_t>(got["sheaf.dispatch.steps"]), 2);
  EXPECT_EQ(std::get<int64_t>(got["sheaf.dispatch.answers"]), 4);
  EXPECT_EQ(std::get<int64_t>(got["sheaf.dispatch.pairs"]), 8);
  EXPECT_DOUBLE_EQ(std::get<double>(got["sheaf.dispatch.seconds"]), 0.03);
  EXPECT_DOUBLE_EQ(std::get<double>(got["sheaf.dispatch.longest_seconds"]), 0.015);
}

TEST_F(RequestSpansTest, ManyWorkersAreTheSlowest) {
  std::vector<WorkerDispatches> workers;
  for (int i = 0; i < 200; ++i) workers.push_back({WorkerId(i), 1, 1, 0.001 * i, 0.001 * i});
  history_.Add(Ended() - milliseconds(960), Ended() - milliseconds(910), workers);
  const std::vector<Span> spans = Spans(Request());
  EXPECT_EQ(spans.size(), 5 + kMostWorkers);
  for (const Span& span : spans) {
    if (span.kind != SpanKind::kClient) continue;
    EXPECT_GE(std::get<int64_t>(Attributes(span)["sheaf.worker"]), 200 - int64_t{kMostWorkers});
  }
}

}  // namespace
}  // namespace sheaf
