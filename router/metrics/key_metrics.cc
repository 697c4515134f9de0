#include "router/metrics/key_metrics.h"

#include "absl/strings/str_format.h"

namespace sheaf {

std::string HashOfKey(std::string_view fairness_key) {
  if (fairness_key.empty()) return "none";
  // FNV-1a of 64 bits.
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : fairness_key) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  }
  return absl::StrFormat("%016x", hash);
}

KeyMetrics::KeyMetrics(prometheus::Registry& registry, size_t most_keys)
    : most_keys_(most_keys),
      requests_(prometheus::BuildCounter()
                    .Name("sheaf_key_requests_total")
                    .Help("Generation requests ended, by hash of the fairness key.")
                    .Register(registry)),
      prompt_tokens_(prometheus::BuildCounter()
                         .Name("sheaf_key_prompt_tokens_total")
                         .Help("Prompt tokens of those requests.")
                         .Register(registry)),
      generated_tokens_(prometheus::BuildCounter()
                            .Name("sheaf_key_generated_tokens_total")
                            .Help("Tokens that those requests were told.")
                            .Register(registry)) {}

KeyMetrics::Series& KeyMetrics::Of(const std::string& key) {
  const bool own = series_.contains(key) || series_.size() < most_keys_;
  const auto [at, added] = series_.try_emplace(own ? key : "other");
  if (added) {
    const prometheus::Labels labels = {{"key", at->first}};
    at->second = {&requests_.Add(labels), &prompt_tokens_.Add(labels),
                  &generated_tokens_.Add(labels)};
  }
  return at->second;
}

void KeyMetrics::Ended(std::string_view fairness_key, int64_t prompt_tokens,
                       int64_t generated_tokens) {
  const std::string key = HashOfKey(fairness_key);
  absl::MutexLock lock(&mutex_);
  Series& series = Of(key);
  series.requests->Increment();
  series.prompt_tokens->Increment(static_cast<double>(prompt_tokens));
  series.generated_tokens->Increment(static_cast<double>(generated_tokens));
}

}  // namespace sheaf
