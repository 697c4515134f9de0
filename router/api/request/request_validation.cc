#include "router/api/request/request_validation.h"

#include <algorithm>
#include <span>
#include <utility>

#include "absl/strings/str_format.h"
#include "router/api/request/bad_words.h"
#include "router/api/request/prompt/text_bounds.h"
#include "router/api/request/prompt/tokenize_prompts.h"

namespace sheaf {
namespace {

constexpr int64_t kDefaultCompletionTokens = 16;

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
  std::vector<TokenId> allowed(request.allowed_token_ids.begin(), request.allowed_token_ids.end());
  std::sort(allowed.begin(), allowed.end());
  allowed.erase(std::unique(allowed.begin(), allowed.end()), allowed.end());
  params.allowed_token_ids = SharedList<TokenId>(std::move(allowed));
  return params;
}

// How many tokens a prompt may be given. Negative numbers do not come out: an error does.
ApiResult<int32_t> MaxTokens(const ParsedRequest& request, const ValidationContext& context,
                             const PreparedPrompt& prepared) {
  const int64_t prompt = static_cast<int64_t>(prepared.tokens.size());
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
            "(%d%s in the prompt, %d in the completion). Please reduce the length of either.",
            context.max_model_len, static_cast<double>(prompt) + static_cast<double>(wanted),
            prompt, prepared.given_up ? " or more" : "", wanted)}});
}

uint64_t HashOf(uint64_t seed, std::span<const TokenId> tokens) {
  uint64_t hash = seed ^ 0xCBF29CE484222325;  // FNV-1a, token by token
  for (const TokenId token : tokens) {
    hash = (hash ^ static_cast<uint32_t>(token)) * 0x100000001B3;
    hash ^= hash >> 29;
  }
  return hash;
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

ApiResult<PreparedRequest> PrepareRequest(const ParsedRequest& request,
                                          const ValidationContext& context) {
  if (auto error = CheckModelName(request.model, context.model)) return *std::move(error);
  if (auto violations = CheckFields(request, context); !violations.empty()) {
    return InvalidFields(std::move(violations));
  }
  auto tokens = TokenizePrompts(request, context);
  if (auto* error = std::get_if<ApiError>(&tokens)) return std::move(*error);

  PreparedRequest prepared;
  prepared.prompts = std::move(std::get<TokenizedPrompts>(tokens).prompts);
  prepared.doubled_prefixes = std::get<TokenizedPrompts>(tokens).doubled_prefixes;
  if (auto left = CheckClient(context)) return *std::move(left);
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
  choice.priority = static_cast<int32_t>(request.priority.value_or(0));
  choice.fairness_key = request.fairness_key;
  choice.cache_salt = request.cache_salt.value_or("");
  choice.guide = std::get<AnswerPlan>(plan).guide;
  choice.prior_output.assign(request.prior_output.begin(), request.prior_output.end());
  choice.bad_words = std::get<BadWords>(std::move(bad_words));

  for (size_t p = 0; p < prepared.prompts.size(); ++p) {
    auto max_tokens = MaxTokens(request, context, prepared.prompts[p]);
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
