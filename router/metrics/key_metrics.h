#pragma once
// KeyMetrics: who uses how much, by fairness key, with a bounded number of series.
//
// Labels     `key` is a hash of the key (HashOfKey), "none" for requests without one. The first
//            `most_keys` keys have series of their own; all later ones share "other".
// Threads    any; a short lock. Ownership   the registry outlives this.

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "prometheus/counter.h"
#include "prometheus/family.h"
#include "prometheus/registry.h"

namespace sheaf {

// 16 hex digits, the same in every process for the same key; "none" for an empty one. Not a
// secret's guard: a key that can be guessed can be recognised.
std::string HashOfKey(std::string_view fairness_key);

class KeyMetrics {
 public:
  KeyMetrics(prometheus::Registry& registry, size_t most_keys);
  KeyMetrics(const KeyMetrics&) = delete;
  KeyMetrics& operator=(const KeyMetrics&) = delete;

  void Ended(std::string_view fairness_key, int64_t prompt_tokens, int64_t generated_tokens);

 private:
  struct Series {
    prometheus::Counter* requests;
    prometheus::Counter* prompt_tokens;
    prometheus::Counter* generated_tokens;
  };
  Series& Of(const std::string& key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const size_t most_keys_;
  prometheus::Family<prometheus::Counter>& requests_;
  prometheus::Family<prometheus::Counter>& prompt_tokens_;
  prometheus::Family<prometheus::Counter>& generated_tokens_;

  absl::Mutex mutex_;
  std::map<std::string, Series> series_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sheaf
