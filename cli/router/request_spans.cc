#include "cli/router/request_spans.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "router/metrics/key_metrics.h"

namespace sheaf {
namespace {

double Seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

SpanId RandomSpanId(const std::function<uint64_t()>& random) {
  uint64_t value = 0;
  while (value == 0) value = random();
  SpanId id;
  for (size_t i = 0; i < id.size(); ++i) id[i] = static_cast<uint8_t>(value >> (8 * i));
  return id;
}

// By the conventions for servers: what the client did wrong, or wanted, is no failure of ours.
bool IsFailure(RequestOutcome outcome) {
  switch (outcome) {
    case RequestOutcome::kStop:
    case RequestOutcome::kLength:
    case RequestOutcome::kCancelled:
    case RequestOutcome::kInvalid:
      return false;
    default:
      return true;
  }
}

bool IsAnswered(RequestOutcome outcome) {
  return outcome == RequestOutcome::kStop || outcome == RequestOutcome::kLength;
}

const char* ReasonName(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "cancelled";
    case FinishReason::kError:
      return "error";
  }
  return "";
}

class Writer {
 public:
  Writer(const EndedRequest& request, const RequestSpansParts& parts)
      : request_(request), parts_(parts) {}

  std::vector<Span> Write() {
    Span& root = Add("", SpanKind::kServer, Duration(0), request_.total);
    const char* const operation = request_.chat ? "chat" : "text_completion";
    root.name = absl::StrCat(operation, " ", parts_.model);
    if (request_.trace != nullptr) {
      root.parent_id = request_.trace->span_id;
      root.parent_is_elsewhere = true;
    }
    AddAttributes(operation, root);
    const SpanId root_id = root.span_id;
    if (!request_.submitted) return std::move(spans_);
    const Duration submitted = *request_.submitted;
    // Another choice may have had its token before the last one was admitted.
    const Duration admitted =
        std::min(submitted + request_.queued, request_.first_token.value_or(request_.total));
    AddPhase("prepare", root_id, Duration(0), submitted);
    // Without a token nobody knows what it was doing, but for one that was told how long it waited.
    if (request_.first_token || request_.queued > Duration(0)) {
      AddPhase("queue", root_id, submitted, admitted);
    }
    if (!request_.first_token) return std::move(spans_);
    AddDispatches(AddPhase("prefill", root_id, admitted, *request_.first_token), admitted,
                  *request_.first_token);
    AddDispatches(AddPhase("decode", root_id, *request_.first_token, request_.total),
                  *request_.first_token, request_.total);
    return std::move(spans_);
  }

 private:
  // Times since the arrival, brought into the request's.
  Span& Add(std::string name, SpanKind kind, Duration begin, Duration end) {
    const int64_t arrival = parts_.ended_unix_nanos - Nanos(request_.total);
    begin = std::clamp(begin, Duration(0), request_.total);
    end = std::clamp(end, begin, request_.total);
    Span span;
    span.trace_id = request_.trace != nullptr ? request_.trace->trace_id : parts_.trace_id;
    span.span_id = RandomSpanId(parts_.random);
    span.trace_flags = request_.trace != nullptr ? request_.trace->flags : parts_.trace_flags;
    if (request_.trace != nullptr) span.trace_state = request_.trace->trace_state;
    span.name = std::move(name);
    span.kind = kind;
    span.start_unix_nanos = arrival + Nanos(begin);
    span.end_unix_nanos = arrival + Nanos(end);
    return spans_.emplace_back(std::move(span));
  }

  SpanId AddPhase(const char* name, const SpanId& parent, Duration begin, Duration end) {
    Span& span = Add(name, SpanKind::kInternal, begin, end);
    span.parent_id = parent;
    return span.span_id;
  }

  void AddDispatches(const SpanId& parent, Duration begin, Duration end) {
    if (parts_.dispatches == nullptr) return;
    const TimePoint arrival = parts_.ended - request_.total;
    DispatchHistory::Window window = parts_.dispatches->Sum(arrival + begin, arrival + end);
    std::vector<WorkerDispatches>& workers = window.workers;
    if (workers.size() > kMostWorkers) {
      std::nth_element(workers.begin(), workers.begin() + kMostWorkers, workers.end(),
                       [](const auto& a, const auto& b) { return a.seconds > b.seconds; });
      workers.resize(kMostWorkers);
    }
    for (const WorkerDispatches& worker : workers) {
      const Duration from = std::max(window.begin - arrival, begin);
      Span& span = Add(absl::StrCat("dispatch worker ", worker.worker.value()), SpanKind::kClient,
                       from, std::min(window.end - arrival, end));
      span.parent_id = parent;
      span.attributes = {{"sheaf.worker", int64_t{worker.worker.value()}},
                         {"sheaf.dispatch.steps", int64_t{window.steps}},
                         {"sheaf.dispatch.answers", worker.answers},
                         {"sheaf.dispatch.pairs", worker.pairs},
                         {"sheaf.dispatch.seconds", worker.seconds},
                         {"sheaf.dispatch.longest_seconds", worker.longest_seconds}};
    }
  }

  void AddAttributes(const char* operation, Span& span) const {
    const auto set = [&](const char* key, auto value) { span.attributes.push_back({key, value}); };
    set("gen_ai.operation.name", std::string(operation));
    set("gen_ai.provider.name", std::string("sheaf"));
    set("gen_ai.request.model", parts_.model);
    set("gen_ai.response.model", parts_.model);
    if (!request_.id.empty()) set("gen_ai.request.id", std::string(request_.id));
    set("sheaf.face", std::string(NameOf(request_.face)));
    set("sheaf.key", HashOfKey(request_.fairness_key));
    set("sheaf.outcome", std::string(NameOf(request_.outcome)));
    if (!IsAnswered(request_.outcome)) set("error.type", std::string(NameOf(request_.outcome)));
    span.failed = IsFailure(request_.outcome);
    if (span.failed) span.failure = NameOf(request_.outcome);
    set("gen_ai.latency.e2e", Seconds(request_.total));
    if (!request_.asked) return;
    set("gen_ai.request.max_tokens", int64_t{request_.asked->max_tokens});
    set("gen_ai.request.temperature", double{request_.asked->temperature});
    set("gen_ai.request.top_p", double{request_.asked->top_p});
    if (request_.asked->top_k > 0) set("gen_ai.request.top_k", int64_t{request_.asked->top_k});
    set("gen_ai.request.choice.count", int64_t{request_.choices});
    set("gen_ai.request.n", int64_t{request_.choices});
    set("gen_ai.response.id",
        std::string(request_.response_id.empty() ? request_.id : request_.response_id));
    set("gen_ai.usage.input_tokens", request_.prompt_tokens);
    set("gen_ai.usage.output_tokens", request_.output_tokens);
    set("gen_ai.usage.cache_read.input_tokens", request_.cached_tokens);
    if (!request_.finish_reasons.empty()) {
      std::vector<std::string> reasons;
      for (const FinishReason reason : request_.finish_reasons)
        reasons.push_back(ReasonName(reason));
      set("gen_ai.response.finish_reasons", std::move(reasons));
    }
    if (!request_.first_token || !request_.submitted) return;
    const Duration admitted = *request_.submitted + request_.queued;
    const double prefill = Seconds(std::max(*request_.first_token - admitted, Duration(0)));
    const double decode = Seconds(request_.total - *request_.first_token);
    set("gen_ai.response.time_to_first_chunk", Seconds(*request_.first_token));
    set("gen_ai.latency.time_to_first_token", Seconds(*request_.first_token));
    set("gen_ai.latency.time_in_queue", Seconds(request_.queued));
    set("gen_ai.latency.time_in_model_prefill", prefill);
    set("gen_ai.latency.time_in_model_decode", decode);
    set("gen_ai.latency.time_in_model_inference", prefill + decode);
  }

  static int64_t Nanos(Duration duration) {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(duration).count();
  }

  const EndedRequest& request_;
  const RequestSpansParts& parts_;
  std::vector<Span> spans_;
};

}  // namespace

std::vector<Span> RequestSpans(const EndedRequest& request, const RequestSpansParts& parts) {
  return Writer(request, parts).Write();
}

}  // namespace sheaf
