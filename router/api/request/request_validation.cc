#include "router/api/request/request_validation.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

#include "absl/strings/str_format.h"
#include "router/api/request/bad_words.h"
#include "router/api/request/chat_checks.h"
#include "router/api/request/chat_prompt.h"

namespace sheaf {
namespace {

constexpr int64_t kDefaultCompletionTokens = 16;
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

std::string PromptField(const ParsedRequest& request, size_t index) {
  return request.prompts.size() == 1 ? "prompt" : absl::StrFormat("prompt[%d]", index);
}

void CheckPrompts(const ParsedRequest& request, const ValidationContext& context,
                  FieldChecker& check, std::vector<FieldViolation>& violations) {
  if (request.truncate_prompt_tokens && *request.truncate_prompt_tokens != -1) {
    check.IntegerRange("truncate_prompt_tokens", request.truncate_prompt_tokens, 1,
                       context.max_model_len);
  }
  if (request.chat) return CheckChat(request, context, violations);
  if (request.prompts.empty()) check.Fail("prompt", "is required");
  const size_t max_bytes =
      static_cast<size_t>(context.max_model_len) * context.limits.max_bytes_per_token;
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
      if (text.size() > max_bytes) {
        check.Fail(
            field,
            absl::StrFormat("This model's maximum context length is %d tokens; a text of %d bytes "
                            "cannot fit.",
                            context.max_model_len, text.size()));
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

// generation_config.json's value, else the server's; the client's before both.
template <typename T, typename Sent>
T Choose(const std::optional<Sent>& sent, const std::optional<T>& from_checkpoint,
         T server_default) {
  if (sent) return static_cast<T>(*sent);
  return from_checkpoint.value_or(server_default);
}

kernels::SamplingParams Sampling(const ParsedRequest& request, const GenerationDefaults& defaults) {
  kernels::SamplingParams params;
  params.temperature = Choose(request.temperature, defaults.temperature, 1.0f);
  params.top_p = Choose(request.top_p, defaults.top_p, 1.0f);
  params.min_p = Choose(request.min_p, defaults.min_p, 0.0f);
  params.repetition_penalty = Choose(request.repetition_penalty, defaults.repetition_penalty, 1.0f);
  params.top_k = Choose(request.top_k, defaults.top_k, int32_t{0});
  params.frequency_penalty = static_cast<float>(request.frequency_penalty.value_or(0));
  params.presence_penalty = static_cast<float>(request.presence_penalty.value_or(0));
  for (const auto& [id, bias] : request.logit_bias) {
    params.logit_bias.emplace_back(static_cast<TokenId>(id), static_cast<float>(bias));
  }
  params.allowed_token_ids.assign(request.allowed_token_ids.begin(),
                                  request.allowed_token_ids.end());
  return params;
}

// How many tokens a prompt may be given. Negative numbers do not come out: an error does.
ApiResult<int32_t> MaxTokens(const ParsedRequest& request, const ValidationContext& context,
                             size_t prompt_tokens) {
  const int64_t prompt = static_cast<int64_t>(prompt_tokens);
  const int64_t left = context.max_model_len - prompt;
  int64_t wanted = kDefaultCompletionTokens;
  if (request.max_tokens) {
    wanted = std::max<int64_t>(*request.max_tokens, 1);
  } else {
    if (request.chat) wanted = context.model.config.generation.max_new_tokens.value_or(left);
    wanted = std::max<int64_t>(std::min(wanted, left), 1);
  }
  if (wanted <= left) return static_cast<int32_t>(wanted);
  // Client libraries recognise "maximum context length" and shorten their prompt. wanted may be
  // near 2^63: the sum is not taken in integers.
  return InvalidFields(
      {{request.chat ? "messages" : "prompt",
        absl::StrFormat(
            "This model's maximum context length is %d tokens. However, you requested %.0f tokens "
            "(%d in the prompt, %d in the completion). Please reduce the length of either.",
            context.max_model_len, static_cast<double>(prompt) + static_cast<double>(wanted),
            prompt, wanted)}});
}

// A tokenizer may have tokens that the model has no row for.
ApiResult<std::vector<TokenId>> InVocabulary(absl::StatusOr<std::vector<TokenId>> tokens,
                                             const std::string& field,
                                             const ValidationContext& context) {
  if (!tokens.ok()) return InvalidFields({{field, std::string(tokens.status().message())}});
  const int vocab_size = context.model.config.vocab_size;
  for (const TokenId id : *tokens) {
    if (id >= 0 && id < vocab_size) continue;
    return InvalidFields(
        {{field, absl::StrFormat("token id %d (\"%s\") is outside the vocabulary [0, %d)", id,
                                 context.codec.TokenText(id), vocab_size)}});
  }
  return *std::move(tokens);
}

ApiResult<std::vector<PreparedPrompt>> Tokenize(const ParsedRequest& request,
                                                const ValidationContext& context) {
  const TextCodec& codec = context.codec;
  std::vector<PreparedPrompt> prompts;
  if (request.chat) {
    auto chat = ChatPromptText(*request.chat, codec);
    if (auto* error = std::get_if<ApiError>(&chat)) return std::move(*error);
    RenderedChat& prompt = std::get<RenderedChat>(chat);
    auto encoded =
        InVocabulary(codec.EncodeChat(prompt, request.add_special_tokens.value_or(false)),
                     "messages", context);
    if (auto* error = std::get_if<ApiError>(&encoded)) return std::move(*error);
    auto& tokens = std::get<std::vector<TokenId>>(encoded);
    if (tokens.empty()) return InvalidFields({{"messages", "render to an empty prompt"}});
    prompts.push_back({std::move(tokens), std::move(prompt.text)});
    return prompts;
  }
  for (size_t i = 0; i < request.prompts.size(); ++i) {
    PreparedPrompt prompt;
    if (const auto* ids = std::get_if<std::vector<int64_t>>(&request.prompts[i])) {
      prompt.tokens.assign(ids->begin(), ids->end());
      if (request.echo) {
        auto text = codec.Decode(prompt.tokens, request.skip_special_tokens);
        if (!text.ok()) return ApiError{text.status(), {}, {}};
        prompt.text = *std::move(text);
      }
    } else {
      prompt.text = std::get<std::string>(request.prompts[i]);
      auto encoded =
          InVocabulary(codec.Encode(prompt.text, request.add_special_tokens.value_or(true)),
                       PromptField(request, i), context);
      if (auto* error = std::get_if<ApiError>(&encoded)) return std::move(*error);
      prompt.tokens = std::get<std::vector<TokenId>>(std::move(encoded));
      if (prompt.tokens.empty()) return InvalidFields({{PromptField(request, i), "has no tokens"}});
    }
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

uint64_t HashOf(uint64_t seed, std::span<const TokenId> tokens) {
  uint64_t hash = seed ^ 0xCBF29CE484222325;  // FNV-1a, token by token
  for (const TokenId token : tokens) {
    hash = (hash ^ static_cast<uint32_t>(token)) * 0x100000001B3;
    hash ^= hash >> 29;
  }
  return hash;
}

bool BeginsWithTwo(std::span<const TokenId> tokens, std::span<const TokenId> prefix) {
  return !prefix.empty() && tokens.size() >= 2 * prefix.size() &&
         std::equal(prefix.begin(), prefix.end(), tokens.begin()) &&
         std::equal(prefix.begin(), prefix.end(), tokens.begin() + std::ssize(prefix));
}

// Keeps the end of prompts that are too long, where the client asked for it.
void Truncate(const ParsedRequest& request, const ValidationContext& context,
              std::vector<PreparedPrompt>& prompts) {
  if (!request.truncate_prompt_tokens) return;
  int64_t keep = *request.truncate_prompt_tokens;
  if (keep == -1) {
    keep = context.max_model_len -
           std::clamp<int64_t>(request.max_tokens.value_or(1), 1, context.max_model_len - 1);
  }
  for (PreparedPrompt& prompt : prompts) {
    if (static_cast<int64_t>(prompt.tokens.size()) <= keep) continue;
    prompt.tokens.erase(prompt.tokens.begin(), prompt.tokens.end() - keep);
  }
}

}  // namespace

std::optional<ApiError> CheckModelName(const std::optional<std::string>& name,
                                       const ServedModel& model) {
  if (!name || std::find(model.names.begin(), model.names.end(), *name) != model.names.end()) {
    return std::nullopt;
  }
  return ApiError{
      absl::NotFoundError(absl::StrFormat("The model `%s` does not exist; served here: `%s`.",
                                          name->substr(0, 256), model.names.front())),
      {},
      {}};
}

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

ApiResult<PreparedRequest> PrepareRequest(const ParsedRequest& request,
                                          const ValidationContext& context) {
  if (auto error = CheckModelName(request.model, context.model)) return *std::move(error);
  if (auto violations = CheckFields(request, context); !violations.empty()) {
    return InvalidFields(std::move(violations));
  }
  auto prompts = Tokenize(request, context);
  if (auto* error = std::get_if<ApiError>(&prompts)) return std::move(*error);

  PreparedRequest prepared;
  prepared.prompts = std::get<std::vector<PreparedPrompt>>(std::move(prompts));
  for (const PreparedPrompt& prompt : prepared.prompts) {
    prepared.doubled_prefixes += BeginsWithTwo(prompt.tokens, context.codec.prompt_prefix());
  }
  Truncate(request, context, prepared.prompts);
  auto plan = PlanAnswer(request, prepared.prompts.front().text, context.codec, context.settings);
  if (auto* error = std::get_if<ApiError>(&plan)) return std::move(*error);
  auto bad_words = BadWordTokens(request.bad_words, context.codec);
  if (auto* error = std::get_if<ApiError>(&bad_words)) return std::move(*error);
  prepared.output = std::move(std::get<AnswerPlan>(plan).output);
  // With a seed of the request's own, calls have the same names wherever it runs; unlike for each
  // turn of a conversation.
  prepared.call_id_seed = request.seed ? HashOf(*request.seed, prepared.prompts.front().tokens)
                                       : context.random();
  prepared.n = static_cast<int>(request.n.value_or(1));
  prepared.drop_output = request.max_tokens == 0;
  prepared.request_id = request.request_id.value_or(absl::StrFormat("%016x", context.random()));

  GenerationRequest choice;
  choice.sampling = Sampling(request, context.model.config.generation);
  choice.stop.min_tokens = static_cast<int32_t>(request.min_tokens.value_or(0));
  choice.stop.ignore_eos = request.ignore_eos;
  choice.stop.stop_token_ids.assign(request.stop_token_ids.begin(), request.stop_token_ids.end());
  choice.stop.stop_strings = request.stop;
  choice.stop.include_stop_string = request.include_stop_string;
  choice.skip_special_tokens = request.skip_special_tokens;
  const auto clamp_to_vocabulary =
      [&](const std::optional<int64_t>& wanted) -> std::optional<int32_t> {
    if (!wanted) return std::nullopt;
    return static_cast<int32_t>(std::min<int64_t>(*wanted, context.model.config.vocab_size));
  };
  choice.logprobs = clamp_to_vocabulary(request.logprobs);
  choice.prompt_logprobs = clamp_to_vocabulary(request.prompt_logprobs);
  choice.deadline = request.deadline;
  choice.guide = std::get<AnswerPlan>(plan).guide;
  choice.prior_output.assign(request.prior_output.begin(), request.prior_output.end());
  choice.bad_words = std::get<BadWords>(std::move(bad_words));

  for (size_t p = 0; p < prepared.prompts.size(); ++p) {
    auto max_tokens = MaxTokens(request, context, prepared.prompts[p].tokens.size());
    if (auto* error = std::get_if<ApiError>(&max_tokens)) return std::move(*error);
    choice.stop.max_tokens = std::get<int32_t>(max_tokens);
    if (choice.stop.min_tokens > choice.stop.max_tokens) {
      return InvalidFields(
          {{"min_tokens", absl::StrFormat("must be at most max_tokens = %d, got %d",
                                          choice.stop.max_tokens, choice.stop.min_tokens)}});
    }
    choice.prompt = prepared.prompts[p].tokens;
    const uint64_t seed = request.seed ? *request.seed : context.random();
    for (int sample = 0; sample < prepared.n; ++sample) {
      choice.sampling.seed = seed + static_cast<uint64_t>(sample);
      choice.request_id =
          prepared.choices.empty() && prepared.n == 1 && prepared.prompts.size() == 1
              ? prepared.request_id
              : absl::StrFormat("%s-%d", prepared.request_id, prepared.choices.size());
      prepared.choices.push_back(choice);
    }
  }
  return prepared;
}

}  // namespace sheaf
