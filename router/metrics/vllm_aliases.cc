#include "router/metrics/vllm_aliases.h"

#include <map>
#include <string_view>
#include <utility>

#include "prometheus/client_metric.h"
#include "prometheus/metric_type.h"

namespace sheaf {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Label = ClientMetric::Label;

struct Alias {
  const char* name;
  const char* of;
  const char* help;
};

// The same figure under another name, labels added.
constexpr Alias kSame[] = {
    {"vllm:num_requests_running", "sheaf_requests_running", "Sequences in the running batch."},
    {"vllm:num_requests_waiting", "sheaf_requests_queued", "Sequences waiting to be run."},
    {"vllm:num_preemptions_total", "sheaf_preemptions_total", "Sequences put back into the queue."},
    {"vllm:prompt_tokens_total", "sheaf_prompt_tokens_total", "Prompt tokens computed."},
    {"vllm:prompt_tokens_cached_total", "sheaf_prefix_cache_hits_total",
     "Prompt tokens found in the prefix cache."},
    {"vllm:generation_tokens_total", "sheaf_generated_tokens_total", "Tokens generated."},
    {"vllm:prefix_cache_queries_total", "sheaf_prefix_cache_queries_total",
     "Tokens looked up in the prefix cache."},
    {"vllm:prefix_cache_hits_total", "sheaf_prefix_cache_hits_total",
     "Of those, tokens found and not computed."},
    {"vllm:spec_decode_num_drafts_total", "sheaf_speculation_drafts_total",
     "Drafts that were verified."},
    {"vllm:spec_decode_num_draft_tokens_total", "sheaf_speculation_draft_tokens_total",
     "Tokens of those drafts."},
    {"vllm:spec_decode_num_accepted_tokens_per_pos_total",
     "sheaf_speculation_accepted_tokens_total",
     "Of those tokens, the ones that came true, by position."},
    {"vllm:iteration_tokens_total", "sheaf_step_tokens", "Tokens in a step's batch."},
    {"vllm:time_to_first_token_seconds", "sheaf_time_to_first_token_seconds",
     "Arrival of a request to a choice's first token."},
    {"vllm:inter_token_latency_seconds", "sheaf_inter_token_latency_seconds",
     "From one token of a choice to the next."},
    {"vllm:request_time_per_output_token_seconds", "sheaf_sequence_token_seconds",
     "Mean time of a sequence's tokens after its first."},
    {"vllm:e2e_request_latency_seconds", "sheaf_request_duration_seconds",
     "Arrival of a generation request to its end."},
    {"vllm:request_queue_time_seconds", "sheaf_queue_seconds",
     "Submit of a choice to the first time that it runs."},
    {"vllm:request_inference_time_seconds", "sheaf_sequence_run_seconds",
     "First admission of a sequence to its end."},
    {"vllm:request_prefill_time_seconds", "sheaf_sequence_prefill_seconds",
     "First admission of a sequence to its first token."},
    {"vllm:request_decode_time_seconds", "sheaf_sequence_decode_seconds",
     "First token of a sequence to its end."},
    {"vllm:request_prompt_tokens", "sheaf_sequence_prompt_tokens",
     "Prompt tokens of sequences that ended."},
    {"vllm:request_generation_tokens", "sheaf_sequence_generated_tokens",
     "New tokens of sequences that ended."},
};

// Outcomes (docs/metrics.md) as vLLM's reasons. Requests that were never run have none there.
constexpr std::pair<const char*, const char*> kFinished[] = {
    {"stop", "stop"}, {"length", "length"}, {"cancelled", "abort"}, {"deadline", "abort"},
    {"error", "error"}};

class Aliases {
 public:
  Aliases(std::span<const MetricFamily> collected, const VllmFacts& facts) : facts_(facts) {
    for (const MetricFamily& family : collected) by_name_[family.name] = &family;
  }

  std::vector<MetricFamily> Make() {
    for (const Alias& alias : kSame) Same(alias);
    WaitingByReason();
    KvCache();
    AcceptedTokens();
    Finished();
    Rejected();
    return std::move(made_);
  }

 private:
  const MetricFamily* Find(std::string_view name) const {
    const auto found = by_name_.find(name);
    return found == by_name_.end() || found->second->metric.empty() ? nullptr : found->second;
  }
  std::vector<Label> Labels() const {
    return {{"model_name", facts_.model_name}, {"engine", "0"}};
  }
  MetricFamily& Family(const char* name, const char* help, MetricType type) {
    made_.push_back({name, help, type, {}});
    return made_.back();
  }
  void Add(MetricFamily& family, std::vector<Label> own, double value) {
    ClientMetric metric;
    metric.label = Labels();
    for (Label& label : own) metric.label.push_back(std::move(label));
    if (family.type == MetricType::Counter) {
      metric.counter.value = value;
    } else {
      metric.gauge.value = value;
    }
    family.metric.push_back(std::move(metric));
  }

  void Same(const Alias& alias) {
    const MetricFamily* source = Find(alias.of);
    if (source == nullptr) return;
    MetricFamily& family = Family(alias.name, alias.help, source->type);
    family.metric = source->metric;
    for (ClientMetric& metric : family.metric) {
      std::vector<Label> labels = Labels();
      for (Label& own : metric.label) labels.push_back(std::move(own));
      metric.label = std::move(labels);
    }
  }

  void WaitingByReason() {
    const MetricFamily* queued = Find("sheaf_requests_queued");
    if (queued == nullptr) return;
    MetricFamily& family = Family("vllm:num_requests_waiting_by_reason",
                                  "Sequences waiting to be run, by reason.", MetricType::Gauge);
    Add(family, {{"reason", "capacity"}}, queued->metric.front().gauge.value);
    Add(family, {{"reason", "deferred"}}, 0);
  }

  void KvCache() {
    const MetricFamily* used = Find("sheaf_kv_blocks_used");
    const MetricFamily* capacity = Find("sheaf_kv_blocks_capacity");
    if (used == nullptr || capacity == nullptr) return;
    const double blocks = capacity->metric.front().gauge.value;
    const double share = blocks > 0 ? used->metric.front().gauge.value / blocks : 0;
    Add(Family("vllm:kv_cache_usage_perc", "KV cache blocks in use, as a share of 1.",
               MetricType::Gauge),
        {}, share);
    Add(Family("vllm:cache_config_info", "Always 1; the labels describe the KV cache.",
               MetricType::Gauge),
        {{"block_size", std::to_string(facts_.block_size)},
         {"num_gpu_blocks", std::to_string(static_cast<int64_t>(blocks))},
         {"cache_dtype", facts_.cache_dtype},
         {"enable_prefix_caching", facts_.prefix_caching ? "True" : "False"}},
        1);
  }

  void AcceptedTokens() {
    const MetricFamily* accepted = Find("sheaf_speculation_accepted_tokens_total");
    if (accepted == nullptr) return;
    double sum = 0;
    for (const ClientMetric& metric : accepted->metric) sum += metric.counter.value;
    Add(Family("vllm:spec_decode_num_accepted_tokens_total",
               "Tokens of drafts that came true.", MetricType::Counter),
        {}, sum);
  }

  // Sums a counter's series by what `reason` makes of one label; nullptr: left out.
  template <typename Reason>
  void ByReason(const char* name, const char* help, const char* of, const char* label,
                const char* as, const Reason& reason) {
    const MetricFamily* source = Find(of);
    if (source == nullptr) return;
    std::map<std::string, double> sums;
    for (const ClientMetric& metric : source->metric) {
      for (const Label& own : metric.label) {
        if (own.name != label) continue;
        if (const char* why = reason(own.value)) sums[why] += metric.counter.value;
      }
    }
    MetricFamily& family = Family(name, help, MetricType::Counter);
    for (const auto& [why, value] : sums) Add(family, {{as, why}}, value);
  }

  void Finished() {
    ByReason("vllm:request_success_total", "Requests that ended after they ran, by reason.",
             "sheaf_requests_total", "outcome", "finished_reason",
             [](const std::string& outcome) -> const char* {
               for (const auto& [ours, theirs] : kFinished) {
                 if (outcome == ours) return theirs;
               }
               return nullptr;
             });
  }

  void Rejected() {
    ByReason("vllm:admission_rejections_total", "Requests that the queue did not take.",
             "sheaf_requests_refused_total", "cause", "reason",
             [](const std::string& cause) { return cause.c_str(); });
  }

  const VllmFacts& facts_;
  std::map<std::string_view, const MetricFamily*> by_name_;
  std::vector<MetricFamily> made_;
};

}  // namespace

std::vector<MetricFamily> VllmAliases(std::span<const MetricFamily> collected,
                                      const VllmFacts& facts) {
  return Aliases(collected, facts).Make();
}

}  // namespace sheaf
