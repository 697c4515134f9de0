#include "router/metrics/router_metrics.h"

#include <chrono>

#include "prometheus/family.h"

namespace sheaf {
namespace {

using Buckets = prometheus::Histogram::BucketBoundaries;

// The bounds that LLM dashboards expect.
Buckets FirstTokenBuckets() {
  return {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
          1,     2.5,   5,    7.5,  10,   20,   40,   80,  160,  640, 2560};
}
Buckets TokenBuckets() {
  return {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3,
          0.4,   0.5,    0.75,  1,    2.5,   5,    7.5,   10,  20,   40,  80};
}
Buckets RequestBuckets() {
  return {0.01, 0.05, 0.1, 0.3, 0.5, 0.8, 1,   1.5, 2,   2.5, 5,    10,
          15,   20,   30,  40,  50,  60,  120, 240, 480, 960, 1920, 7680};
}
Buckets StepTokenBuckets() {
  return {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384};
}

Buckets RatioBuckets() { return {0.25, 0.5, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 4, 8}; }

prometheus::Family<prometheus::Counter>& CounterFamily(prometheus::Registry& registry,
                                                       const char* name, const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry);
}

prometheus::Counter& Counter(prometheus::Registry& registry, const char* name, const char* help) {
  return CounterFamily(registry, name, help).Add({});
}

prometheus::Gauge& Gauge(prometheus::Registry& registry, const char* name, const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add({});
}

prometheus::Histogram& Histogram(prometheus::Registry& registry, const char* name, const char* help,
                                 const Buckets& buckets) {
  return prometheus::BuildHistogram().Name(name).Help(help).Register(registry).Add({}, buckets);
}

double Seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

constexpr const char* kFaceNames[] = {"http", "grpc"};
constexpr const char* kOutcomeNames[] = {"stop",    "length",   "cancelled",   "deadline",
                                         "invalid", "rejected", "unavailable", "error"};

}  // namespace

const char* NameOf(RequestOutcome outcome) { return kOutcomeNames[static_cast<int>(outcome)]; }
const char* NameOf(RequestFace face) { return kFaceNames[static_cast<int>(face)]; }

RouterMetrics::RouterMetrics(prometheus::Registry& registry, const std::string& version)
    : load_progress_(Gauge(registry, "sheaf_load_progress_ratio",
                           "Share of the router's weights that is loaded; 1 when it can begin.")),
      call_resets_(Counter(registry, "sheaf_call_resets_total",
                           "gRPC calls whose client left before their end.")),
      request_duration_(Histogram(registry, "sheaf_request_duration_seconds",
                                  "Arrival of a generation request to its end.", RequestBuckets())),
      time_to_first_token_(Histogram(registry, "sheaf_time_to_first_token_seconds",
                                     "Arrival of a request to a choice's first token.",
                                     FirstTokenBuckets())),
      inter_token_latency_(Histogram(registry, "sheaf_inter_token_latency_seconds",
                                     "From one token of a choice to the next.", TokenBuckets())),
      queued_(Gauge(registry, "sheaf_requests_queued", "Sequences waiting to be run.")),
      running_(Gauge(registry, "sheaf_requests_running", "Sequences in the running batch.")),
      kv_blocks_used_(Gauge(registry, "sheaf_kv_blocks_used", "KV cache blocks in use.")),
      kv_blocks_capacity_(
          Gauge(registry, "sheaf_kv_blocks_capacity", "KV cache blocks there are.")),
      prompt_tokens_(Counter(registry, "sheaf_prompt_tokens_total", "Prompt tokens computed.")),
      generated_tokens_(Counter(registry, "sheaf_generated_tokens_total", "Tokens sampled.")),
      steps_(Counter(registry, "sheaf_steps_total", "Forward passes over a batch.")),
      scheduling_cpu_(Counter(registry, "sheaf_scheduling_cpu_seconds_total",
                              "CPU time of the step thread outside of forward passes.")),
      step_duration_(Histogram(registry, "sheaf_step_duration_seconds", "One step, all of it.",
                               TokenBuckets())),
      step_tokens_(Histogram(registry, "sheaf_step_tokens", "Tokens in a step's batch.",
                             StepTokenBuckets())),
      step_time_ratio_(Histogram(registry, "sheaf_step_time_ratio",
                                 "Time of a step / what its plan predicted.", RatioBuckets())),
      step_target_(Gauge(registry, "sheaf_step_target_seconds",
                         "What the last step with decodes and prompts was planned for.")),
      preemptions_(Counter(registry, "sheaf_preemptions_total",
                           "Sequences put back into the queue because KV blocks ran out.")),
      prefix_queries_(Counter(registry, "sheaf_prefix_cache_queries_total",
                              "Tokens looked up in the prefix cache.")),
      prefix_hits_(Counter(registry, "sheaf_prefix_cache_hits_total",
                           "Of those, tokens found and not computed.")),
      prefix_blocks_(Gauge(registry, "sheaf_prefix_cache_blocks",
                           "KV blocks that a later prompt can share.")),
      prefix_evictions_(Counter(registry, "sheaf_prefix_cache_evictions_total",
                                "KV blocks that left the prefix cache for others.")),
      offload_held_(Gauge(registry, "sheaf_kv_offload_blocks", "Evicted KV blocks that are kept.")),
      offload_kept_(Counter(registry, "sheaf_kv_offload_kept_blocks_total",
                            "KV blocks evicted from the cache and kept.")),
      offload_lost_(Counter(registry, "sheaf_kv_offload_lost_blocks_total",
                            "KV blocks evicted for whose copy there was no time.")),
      offload_loaded_(Counter(registry, "sheaf_kv_offload_loaded_blocks_total",
                              "Kept KV blocks that came back into the cache.")),
      offload_failed_(Counter(registry, "sheaf_kv_offload_failed_blocks_total",
                              "KV blocks that could not be written, read or trusted.")),
      forced_tokens_(Counter(registry, "sheaf_forced_tokens_total",
                             "Generated tokens that a grammar or a budget of thoughts forced.")),
      guided_sequences_(Counter(registry, "sheaf_guided_sequences_total",
                                "Sequences with a grammar or a budget of thoughts that ended.")),
      guide_errors_(Counter(registry, "sheaf_guide_errors_total",
                            "Of those, ended by an error of the grammar or a conflict with it.")),
      undeclared_tool_calls_(Counter(registry, "sheaf_undeclared_tool_calls_total",
                                     "Calls of tools that the request had not declared.")),
      doubled_prefixes_(Counter(registry, "sheaf_doubled_prefixes_total",
                                "Prompts that begin twice with the tokens prompts begin with.")) {
  auto& requests = CounterFamily(registry, "sheaf_requests_total", "Generation requests ended.");
  auto& connections = prometheus::BuildGauge()
                          .Name("sheaf_connections")
                          .Help("Open client connections (http) and Generate calls (grpc).")
                          .Register(registry);
  auto& refused_connections = CounterFamily(registry, "sheaf_connections_refused_total",
                                "Connections refused because there were too many.");
  // All of them from the start: a rate over a series that appears with its first event misses that
  // event.
  for (int face = 0; face < kFaces; ++face) {
    connections_[face] = &connections.Add({{"face", kFaceNames[face]}});
    refused_connections_[face] = &refused_connections.Add({{"face", kFaceNames[face]}});
    for (int outcome = 0; outcome < kOutcomes; ++outcome) {
      requests_[face][outcome] =
          &requests.Add({{"face", kFaceNames[face]}, {"outcome", kOutcomeNames[outcome]}});
    }
  }
  prometheus::BuildGauge()
      .Name("sheaf_build_info")
      .Help("Always 1; the labels say what runs.")
      .Register(registry)
      .Add({{"version", version}})
      .Set(1);
}

void RouterMetrics::LoadProgressIs(double share) { load_progress_.Set(share); }

void RouterMetrics::RequestEnded(RequestFace face, RequestOutcome outcome, Duration since_arrival) {
  requests_[static_cast<int>(face)][static_cast<int>(outcome)]->Increment();
  request_duration_.Observe(Seconds(since_arrival));
}

void RouterMetrics::FirstToken(Duration since_arrival) {
  time_to_first_token_.Observe(Seconds(since_arrival));
}

void RouterMetrics::NextToken(Duration since_previous) {
  inter_token_latency_.Observe(Seconds(since_previous));
}

void RouterMetrics::ConnectionsChanged(RequestFace face, int change) {
  connections_[static_cast<int>(face)]->Increment(change);
}

void RouterMetrics::ConnectionRefused(RequestFace face) {
  refused_connections_[static_cast<int>(face)]->Increment();
}

void RouterMetrics::CallReset() { call_resets_.Increment(); }

void RouterMetrics::QueueIs(int64_t queued, int64_t running) {
  queued_.Set(static_cast<double>(queued));
  running_.Set(static_cast<double>(running));
}

void RouterMetrics::KvBlocksAre(int64_t used, int64_t capacity) {
  kv_blocks_used_.Set(static_cast<double>(used));
  kv_blocks_capacity_.Set(static_cast<double>(capacity));
}

void RouterMetrics::StepDone(const StepTokens& tokens, Duration step) {
  steps_.Increment();
  prompt_tokens_.Increment(static_cast<double>(tokens.prompt));
  step_tokens_.Observe(static_cast<double>(tokens.prompt + tokens.decode));
  step_duration_.Observe(Seconds(step));
}

void RouterMetrics::StepWasPlanned(Duration predicted, Duration target, Duration step) {
  if (predicted > Duration{0}) step_time_ratio_.Observe(Seconds(step) / Seconds(predicted));
  if (target > Duration{0}) step_target_.Set(Seconds(target));
}

void RouterMetrics::SchedulingTook(Duration cpu) { scheduling_cpu_.Increment(Seconds(cpu)); }

void RouterMetrics::TokensTold(int64_t generated, int64_t forced) {
  generated_tokens_.Increment(static_cast<double>(generated));
  if (forced > 0) forced_tokens_.Increment(static_cast<double>(forced));
}

void RouterMetrics::Preempted() { preemptions_.Increment(); }

void RouterMetrics::PrefixLookedUp(int64_t tokens, int64_t cached) {
  prefix_queries_.Increment(static_cast<double>(tokens));
  prefix_hits_.Increment(static_cast<double>(cached));
}

void RouterMetrics::PrefixBlocksAre(int64_t cached) {
  prefix_blocks_.Set(static_cast<double>(cached));
}

void RouterMetrics::PrefixBlocksEvicted(int64_t blocks) {
  prefix_evictions_.Increment(static_cast<double>(blocks));
}

void RouterMetrics::BlocksOffloaded(const OffloadedBlocks& blocks) {
  offload_held_.Set(static_cast<double>(blocks.held));
  offload_kept_.Increment(static_cast<double>(blocks.kept));
  offload_lost_.Increment(static_cast<double>(blocks.lost));
  offload_loaded_.Increment(static_cast<double>(blocks.loaded));
  offload_failed_.Increment(static_cast<double>(blocks.failed));
}

void RouterMetrics::GuidedEnded(bool guide_error) {
  guided_sequences_.Increment();
  if (guide_error) guide_errors_.Increment();
}

void RouterMetrics::UndeclaredToolCalls(int calls) { undeclared_tool_calls_.Increment(calls); }
void RouterMetrics::DoubledPrefixes(int prompts) { doubled_prefixes_.Increment(prompts); }

}  // namespace sheaf
