#include "kernels/sampling/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "absl/strings/str_format.h"
#include "kernels/sampling/philox.h"
#include "kernels/vector/exp.h"
#include "kernels/vector/log.h"
#include "kernels/vector/softmax.h"

namespace sheaf::kernels {
namespace {

constexpr float kMasked = -std::numeric_limits<float>::infinity();
constexpr float kGreedyBelow = 1e-5f;

bool InVocabulary(TokenId id, std::span<const float> logits) {
  return id >= 0 && static_cast<size_t>(id) < logits.size();
}

// ---- Steps on the logits, in vLLM's order. Ids outside the vocabulary are ignored.

void KeepMask(std::span<float> logits, std::span<const uint32_t> mask) {
  if (mask.empty()) return;
  for (size_t first = 0; first < logits.size(); first += 32) {
    const uint32_t word = mask[first / 32];
    if (word == ~uint32_t{0}) continue;
    const size_t count = std::min<size_t>(32, logits.size() - first);
    for (size_t i = 0; i < count; ++i) {
      if ((word >> i & 1) == 0) logits[first + i] = kMasked;
    }
  }
}

void KeepOnly(std::span<float> logits, std::span<const TokenId> allowed) {
  if (allowed.empty()) return;
  std::vector<std::pair<TokenId, float>> kept;
  for (const TokenId id : allowed) {
    if (InVocabulary(id, logits)) kept.emplace_back(id, logits[id]);
  }
  std::fill(logits.begin(), logits.end(), kMasked);
  for (const auto& [id, logit] : kept) logits[id] = logit;
}

void Mask(std::span<float> logits, std::span<const TokenId> masked) {
  for (const TokenId id : masked) {
    if (InVocabulary(id, logits)) logits[id] = kMasked;
  }
}

void AddBias(std::span<float> logits, const std::vector<std::pair<TokenId, float>>& bias) {
  for (const auto& [id, amount] : bias) {
    if (InVocabulary(id, logits)) logits[id] += amount;
  }
}

void ApplyPenalties(std::span<float> logits, const SamplingParams& params,
                    const SamplingHistory& history) {
  if (!HasPenalties(params)) return;
  if (history.counts == nullptr) {
    const TokenCounts counts(history.prompt, history.output);
    SamplingHistory counted = history;
    counted.counts = &counts;
    return ApplyPenalties(logits, params, counted);
  }
  const bool repetition = params.repetition_penalty != 1.0f;
  for (const TokenCounts::Entry& entry : history.counts->entries()) {
    if (!InVocabulary(entry.id, logits)) continue;
    float& logit = logits[entry.id];
    if (repetition) {
      logit = logit > 0 ? logit / params.repetition_penalty : logit * params.repetition_penalty;
    }
    if (entry.output > 0) {
      logit -= params.frequency_penalty * static_cast<float>(entry.output);
      logit -= params.presence_penalty;
    }
  }
}

// What a request's own wishes leave nothing of, by name.
absl::Status Conflict(size_t vocab_size, const SamplingParams& params,
                      const SamplingHistory& history) {
  std::string parties;
  const auto add = [&](const char* name, size_t count) {
    if (!parties.empty()) parties += ", ";
    parties += absl::StrFormat("%s (%d tokens)", name, count);
  };
  if (!history.mask.empty()) {
    size_t allowed = 0;
    for (size_t i = 0; i < vocab_size; ++i) allowed += history.mask[i / 32] >> (i % 32) & 1;
    add("allowed by the grammar", allowed);
  }
  if (!params.allowed_token_ids.empty()) {
    add("allowed_token_ids", params.allowed_token_ids.size());
  }
  if (!history.masked.empty()) {
    add("banned now by bad_words, min_tokens or for a grammar", history.masked.size());
  }
  return absl::InvalidArgumentError("no token may come next: " + parties + " exclude each other");
}

// NaN can win nothing, +infinity is the largest float.
absl::Status MakeComparable(std::span<float> logits, const SamplingParams& params,
                            const SamplingHistory& history) {
  size_t usable = 0, nans = 0;
  for (float& logit : logits) {
    if (logit != logit) {
      ++nans;
      logit = kMasked;
    } else if (logit != kMasked) {
      ++usable;
      logit = std::min(logit, std::numeric_limits<float>::max());
    }
  }
  if (usable > 0) return absl::OkStatus();
  const bool restricted =
      !history.mask.empty() || !params.allowed_token_ids.empty() || !history.masked.empty();
  if (nans == 0 && restricted) return Conflict(logits.size(), params, history);
  return absl::InternalError(absl::StrFormat(
      "no token can be sampled: of %d logits %d are NaN and %d are masked or -infinity",
      logits.size(), nans, logits.size() - nans));
}

// ---- Candidates: token ids and their weights exp((logit - max) / temperature).

struct Candidates {
  std::vector<TokenId> ids;
  std::vector<float> weights;

  void KeepFirst(size_t count) {
    ids.resize(count);
    weights.resize(count);
  }
};

void Weigh(std::span<const float> logits, float max, float temperature, Candidates& candidates) {
  std::vector<float>& weights = candidates.weights;
  weights.resize(candidates.ids.size());
  // The maximum first: nothing overflows, and the best token has weight 1 at any temperature.
  for (size_t i = 0; i < weights.size(); ++i) {
    weights[i] = (logits[candidates.ids[i]] - max) / temperature;
  }
  Exp(weights.data(), weights.size(), weights.data());
}

// All tokens but those of weight 0 (and the masked, whose weight may be NaN at infinite
// temperature).
void WeighAll(std::span<const float> logits, float max, float temperature, Candidates& candidates) {
  thread_local std::vector<float> all;
  all.resize(logits.size());
  for (size_t i = 0; i < all.size(); ++i) all[i] = (logits[i] - max) / temperature;
  Exp(all.data(), all.size(), all.data());
  candidates.ids.clear();
  candidates.weights.clear();
  for (size_t i = 0; i < all.size(); ++i) {
    if (!(all[i] > 0) || logits[i] == kMasked) continue;
    candidates.ids.push_back(static_cast<TokenId>(i));
    candidates.weights.push_back(all[i]);
  }
}

// The best token's probability is largest / total, so the total cancels: weight < min_p * 1.
void DropBelow(float min_p, Candidates& candidates) {
  if (min_p <= 0) return;
  size_t kept = 0;
  for (size_t i = 0; i < candidates.ids.size(); ++i) {
    if (candidates.weights[i] < min_p) continue;
    candidates.ids[kept] = candidates.ids[i];
    candidates.weights[kept++] = candidates.weights[i];
  }
  candidates.KeepFirst(kept);
}

double Total(const std::vector<float>& weights) {
  double total = 0;
  for (const float weight : weights) total += weight;
  return total;
}

// Keeps the most probable tokens up to and including the one with which their sum reaches top_p: in
// the order of falling logits (ties by id), a token stays while the sum of those before it is below
// top_p of the total.
void KeepTopP(std::span<const float> logits, float top_p, Candidates& candidates) {
  if (top_p >= 1.0f || candidates.ids.size() < 2) return;
  const double total = Total(candidates.weights);
  // Tokens below this weight sum to less than (1 - top_p) of the total even all together, so none
  // of them stays: that leaves few to sort. The factor covers the rounding of the sums.
  const double negligible =
      (1.0 - top_p) * total / static_cast<double>(candidates.ids.size()) * 0.999;
  struct Entry {
    float logit;
    float weight;
    TokenId id;
  };
  std::vector<Entry> entries;
  for (size_t i = 0; i < candidates.ids.size(); ++i) {
    if (candidates.weights[i] < negligible) continue;
    entries.push_back({logits[candidates.ids[i]], candidates.weights[i], candidates.ids[i]});
  }
  const auto better = [](const Entry& a, const Entry& b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
  };
  // Sorted piece by piece, each twice as long: usually the first is enough.
  const double wanted = top_p * total;
  double sum = 0;
  size_t kept = 0;
  for (size_t piece = 256; kept < entries.size() && (kept == 0 || sum < wanted); piece *= 2) {
    const size_t end = std::min(entries.size(), kept + piece);
    if (end < entries.size()) {
      std::nth_element(entries.begin() + kept, entries.begin() + end, entries.end(), better);
    }
    std::sort(entries.begin() + kept, entries.begin() + end, better);
    for (; kept < end && (kept == 0 || sum < wanted); ++kept) sum += entries[kept].weight;
  }
  candidates.KeepFirst(kept);
  for (size_t i = 0; i < kept; ++i) {
    candidates.ids[i] = entries[i].id;
    candidates.weights[i] = entries[i].weight;
  }
}

// ---- The draw.

// The uniform variates of a (seed, output index), four tokens a Philox block.
class Uniforms {
 public:
  Uniforms(uint64_t seed, uint64_t output_index)
      : key_{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)},
        index_(output_index) {}

  // In (0, 1): the middle of one of 2^32 equal parts.
  double Of(uint32_t token) {
    const uint32_t block = token / 4;
    if (!filled_ || block != block_) {
      words_ = Philox(
          {block, static_cast<uint32_t>(index_), static_cast<uint32_t>(index_ >> 32), 0}, key_);
      block_ = block;
      filled_ = true;
    }
    return (words_[token % 4] + 0.5) * 0x1p-32;
  }

 private:
  std::array<uint32_t, 2> key_;
  uint64_t index_;
  bool filled_ = false;
  uint32_t block_ = 0;
  std::array<uint32_t, 4> words_ = {};
};

float Exponential(double uniform) { return static_cast<float>(-Log(uniform)); }

// argmax(weight / Exp(1)), the lowest id winning ties: a draw from the normalized weights.
TokenId Draw(const Candidates& candidates, uint64_t seed, uint64_t output_index) {
  Uniforms uniforms(seed, output_index);
  TokenId best = -1;
  double best_ratio = -1;
  for (size_t i = 0; i < candidates.ids.size(); ++i) {
    const TokenId id = candidates.ids[i];
    const double weight = candidates.weights[i];
    const double uniform = uniforms.Of(static_cast<uint32_t>(id));
    // -log(u) > 1 - u, so weight / (1 - u) bounds the ratio: nearly all tokens are done without a
    // logarithm.
    if (weight < best_ratio * (1.0 - uniform) * (1.0 - 1e-6)) continue;
    const double ratio = weight / Exponential(uniform);
    if (ratio > best_ratio || (ratio == best_ratio && id < best)) {
      best = id;
      best_ratio = ratio;
    }
  }
  return best;
}

}  // namespace

float ExponentialVariate(uint64_t seed, uint64_t output_index, uint32_t token) {
  return Exponential(Uniforms(seed, output_index).Of(token));
}

absl::StatusOr<TokenId> SampleToken(std::span<float> logits, const SamplingParams& params,
                                    const SamplingHistory& history) {
  KeepMask(logits, history.mask);
  KeepOnly(logits, params.allowed_token_ids);
  Mask(logits, history.masked);
  AddBias(logits, params.logit_bias);
  ApplyPenalties(logits, params, history);
  if (const absl::Status status = MakeComparable(logits, params, history); !status.ok())
    return status;

  const int64_t best = ArgMax(logits.data(), logits.size());
  if (params.temperature < kGreedyBelow) return static_cast<TokenId>(best);

  thread_local Candidates candidates;
  const float max = logits[best];
  if (params.top_k > 0 && static_cast<size_t>(params.top_k) < logits.size()) {
    // min-p, top-k and top-p each keep the most probable, so top-k may go first: it leaves the
    // least to do.
    candidates.ids = TopIndexes(logits.data(), logits.size(), params.top_k);
    std::erase_if(candidates.ids, [&](TokenId id) { return logits[id] == kMasked; });
    Weigh(logits, max, params.temperature, candidates);
  } else {
    WeighAll(logits, max, params.temperature, candidates);
  }
  DropBelow(params.min_p, candidates);
  KeepTopP(logits, params.top_p, candidates);
  return Draw(candidates, params.seed, history.output.size());
}

}  // namespace sheaf::kernels
