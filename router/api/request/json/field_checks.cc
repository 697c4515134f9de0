// CheckFields: all that can be said of a request without its tokens.
#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_format.h"
#include "router/api/request/fairness_key.h"
#include "router/api/request/prompt/chat_checks.h"
#include "router/api/request/prompt/text_bounds.h"
#include "router/api/request/prompt/tokenize_prompts.h"
#include "router/api/request/request_validation.h"

namespace sheaf {
namespace {

constexpr double kUnbounded = std::numeric_limits<float>::max();  // the engine computes in float

class FieldChecker {
 public:
  explicit FieldChecker(std::vector<FieldViolation>& violations) : violations_(violations) {}

  void Fail(std::string field, std::string description) {
    violations_.push_back({std::move(field), std::move(description)});
  }

  // low <= value <= high; `open_low` leaves low itself out. NaN is in no range.
  void Range(const char* field, const std::optional<double>& value, double low, double high,
             bool open_low = false) {
    if (!value) return;
    const bool inside = (open_low ? *value > low : *value >= low) && *value <= high;
    if (inside && std::isfinite(*value)) return;
    std::string range = absl::StrFormat("%c%g, %g]", open_low ? '(' : '[', low, high);
    if (high == kUnbounded) {
      range = absl::StrFormat("%c%g, inf)", open_low ? '(' : '[', low);
    }
    Fail(field, absl::StrFormat("must be in %s, got %g", range, *value));
  }

  void IntegerRange(const char* field, const std::optional<int64_t>& value, int64_t low,
                    int64_t high) {
    if (!value || (*value >= low && *value <= high)) return;
    if (*value < low) {
      Fail(field, absl::StrFormat("must be at least %d, got %d", low, *value));
    } else {
      Fail(field, absl::StrFormat("must be at most %d, got %d", high, *value));
    }
  }

  void AtMost(const char* field, size_t count, size_t limit) {
    if (count > limit) Fail(field, absl::StrFormat("at most %d entries, got %d", limit, count));
  }

 private:
  std::vector<FieldViolation>& violations_;
};

void CheckPrompts(const ParsedRequest& request, const ValidationContext& context,
                  FieldChecker& check, std::vector<FieldViolation>& violations) {
  if (request.truncate_prompt_tokens && *request.truncate_prompt_tokens != -1) {
    check.IntegerRange("truncate_prompt_tokens", request.truncate_prompt_tokens, 1,
                       context.max_model_len);
  }
  if (request.chat) {
    const size_t bytes = request.chat->content_bytes;
    if (auto violation = CheckTextBytes("messages", bytes, request, context)) {
      violations.push_back(*std::move(violation));
      return;
    }
    return CheckChat(request, context, violations);
  }
  if (request.prompts.empty()) check.Fail("prompt", "is required");
  for (size_t i = 0; i < request.prompts.size(); ++i) {
    const std::string field = PromptField(request, i);
    if (const auto* ids = std::get_if<std::vector<int64_t>>(&request.prompts[i])) {
      if (ids->empty()) check.Fail(field, "must not be empty");
      if (auto violation = CheckTokenIds(field, *ids, context.model.config.vocab_size)) {
        violations.push_back(*std::move(violation));
      }
    } else {
      const std::string& text = std::get<std::string>(request.prompts[i]);
      if (text.empty()) check.Fail(field, "must not be empty");
      if (auto violation = CheckTextBytes(field, text.size(), request, context)) {
        violations.push_back(*std::move(violation));
      }
    }
  }
}

void CheckSampling(const ParsedRequest& request, const ValidationContext& context,
                   FieldChecker& check, std::vector<FieldViolation>& violations) {
  check.Range("temperature", request.temperature, 0, kUnbounded);
  check.Range("top_p", request.top_p, 0, 1, /*open_low=*/true);
  check.Range("min_p", request.min_p, 0, 1);
  check.Range("repetition_penalty", request.repetition_penalty, 0, kUnbounded, /*open_low=*/true);
  check.Range("frequency_penalty", request.frequency_penalty, -2, 2);
  check.Range("presence_penalty", request.presence_penalty, -2, 2);
  check.IntegerRange("top_k", request.top_k, -1, std::numeric_limits<int32_t>::max());
  const int vocab_size = context.model.config.vocab_size;
  check.AtMost("logit_bias", request.logit_bias.size(), context.limits.max_logit_biases);
  for (const auto& [id, bias] : request.logit_bias) {
    if (auto violation = CheckTokenIds("logit_bias", {id}, vocab_size)) {
      violations.push_back(*std::move(violation));
      break;
    }
    if (!(bias >= -100 && bias <= 100)) {
      check.Fail("logit_bias",
                 absl::StrFormat("must be in [-100, 100], got %g for token %d", bias, id));
      break;
    }
  }
  check.AtMost("allowed_token_ids", request.allowed_token_ids.size(),
               static_cast<size_t>(vocab_size));
  if (auto violation = CheckTokenIds("allowed_token_ids", request.allowed_token_ids, vocab_size)) {
    violations.push_back(*std::move(violation));
  }
  check.AtMost("bad_words", request.bad_words.size(), context.limits.max_bad_words);
  for (const std::string& word : request.bad_words) {
    if (!word.empty() && word.size() <= context.limits.max_bad_word_bytes) continue;
    check.Fail("bad_words", absl::StrFormat("a text has 1 to %d bytes, got %d",
                                            context.limits.max_bad_word_bytes, word.size()));
    break;
  }
}

void CheckStop(const ParsedRequest& request, const ValidationContext& context, FieldChecker& check,
               std::vector<FieldViolation>& violations) {
  const RequestLimits& limits = context.limits;
  check.AtMost("stop", request.stop.size(), limits.max_stop_strings);
  for (const std::string& stop : request.stop) {
    if (stop.empty()) {
      check.Fail("stop", "a stop string must not be empty");
      break;
    }
    if (stop.size() > limits.max_stop_string_bytes) {
      check.Fail("stop", absl::StrFormat("a stop string has at most %d bytes, got %d",
                                         limits.max_stop_string_bytes, stop.size()));
      break;
    }
  }
  check.AtMost("stop_token_ids", request.stop_token_ids.size(), limits.max_stop_token_ids);
  if (auto violation = CheckTokenIds("stop_token_ids", request.stop_token_ids,
                                     context.model.config.vocab_size)) {
    violations.push_back(*std::move(violation));
  }
  const bool prompt_only = request.echo && request.max_tokens == 0;
  if (!prompt_only) {
    check.IntegerRange("max_tokens", request.max_tokens, 1, std::numeric_limits<int64_t>::max());
  }
  check.IntegerRange("min_tokens", request.min_tokens, 0,
                     request.max_tokens.value_or(context.max_model_len));
}

// What needs no replay of it.
void CheckPriorOutput(const ParsedRequest& request, const ValidationContext& context,
                      FieldChecker& check) {
  const std::vector<int64_t>& prior = request.prior_output;
  if (prior.empty()) return;
  const char* const field = "prior_output";
  const int vocab_size = context.model.config.vocab_size;
  for (size_t i = 0; i < prior.size(); ++i) {
    if (prior[i] >= 0 && prior[i] < vocab_size) continue;
    check.Fail(absl::StrFormat("%s[%d]", field, i),
               absl::StrFormat("token id %d is outside the vocabulary [0, %d)", prior[i],
                               vocab_size));
    break;
  }
  const int64_t limit = request.max_tokens.value_or(context.max_model_len);
  if (static_cast<int64_t>(prior.size()) >= limit) {
    check.Fail(field, absl::StrFormat("must have fewer tokens than max_tokens = %d, got %d", limit,
                                      prior.size()));
  }
  if (request.n.value_or(1) > 1) check.Fail(field, "goes on with one output: n must be 1");
  if (request.prompts.size() > 1) check.Fail(field, "goes on with one output: one prompt only");
  if (request.echo) check.Fail(field, "goes on after what was sent before: no echo");
}

void CheckLogprobs(const char* field, const std::optional<int64_t>& wanted,
                   const ValidationContext& context, FieldChecker& check) {
  if (!wanted) return;
  const int64_t limit = context.limits.max_logprobs;
  const bool whole_vocabulary_allowed = limit == -1 || limit >= context.model.config.vocab_size;
  if (*wanted == -1) {
    if (!whole_vocabulary_allowed) {
      check.Fail(field, absl::StrFormat("-1 (the whole vocabulary) is not allowed here: at most %d",
                                        limit));
    }
    return;
  }
  check.IntegerRange(field, wanted, 0, limit == -1 ? context.model.config.vocab_size : limit);
}

// How the request stands to others.
void CheckOrder(const ParsedRequest& request, const ValidationContext& context,
                FieldChecker& check) {
  check.IntegerRange("priority", request.priority, std::numeric_limits<int32_t>::min(),
                     std::numeric_limits<int32_t>::max());
  const size_t key_limit = context.limits.max_fairness_key_bytes;
  if (request.fairness_key.size() > kFairnessPrefixBytes + key_limit) {
    check.Fail("x-fairness-key",
               absl::StrFormat("at most %d bytes, got %d", key_limit,
                               request.fairness_key.size() - kFairnessPrefixBytes));
  }
  if (!request.cache_salt) return;
  const size_t salt = request.cache_salt->size();
  if (salt == 0 || salt > context.limits.max_cache_salt_bytes) {
    check.Fail("cache_salt", absl::StrFormat("must have 1 to %d bytes, got %d",
                                             context.limits.max_cache_salt_bytes, salt));
  }
}

}  // namespace

std::optional<FieldViolation> CheckTokenIds(const std::string& field,
                                            const std::vector<int64_t>& ids, int vocab_size) {
  for (const int64_t id : ids) {
    if (id >= 0 && id < vocab_size) continue;
    return FieldViolation{
        field, absl::StrFormat("token id %d is outside the vocabulary [0, %d)", id, vocab_size)};
  }
  return std::nullopt;
}

std::vector<FieldViolation> CheckFields(const ParsedRequest& request,
                                        const ValidationContext& context) {
  std::vector<FieldViolation> violations;
  FieldChecker check(violations);
  if (request.request_id && request.request_id->size() > context.limits.max_request_id_bytes) {
    check.Fail("request_id",
               absl::StrFormat("at most %d bytes, got %d", context.limits.max_request_id_bytes,
                               request.request_id->size()));
  }
  CheckPrompts(request, context, check, violations);
  CheckSampling(request, context, check, violations);
  CheckStop(request, context, check, violations);
  CheckPriorOutput(request, context, check);
  CheckOrder(request, context, check);
  CheckLogprobs("logprobs", request.logprobs, context, check);
  CheckLogprobs("prompt_logprobs", request.prompt_logprobs, context, check);
  check.IntegerRange("n", request.n, 1, context.limits.max_n);
  const int64_t n = std::clamp<int64_t>(request.n.value_or(1), 1, context.limits.max_n);
  const int64_t prompts = static_cast<int64_t>(request.prompts.size());
  if (prompts > context.limits.max_choices / n) {
    check.Fail("prompt", absl::StrFormat("at most %d choices a request, got %d prompts x n = %d",
                                         context.limits.max_choices, prompts, n));
  }
  return violations;
}

}  // namespace sheaf
