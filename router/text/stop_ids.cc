#include "router/text/stop_ids.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace sheaf {

std::vector<TokenId> StopIdPlan::Ids() const {
  std::vector<TokenId> result;
  for (const StopId& stop : ids) result.push_back(stop.id);
  return result;
}

std::string StopIdPlan::Text() const {
  if (ids.empty()) return "none";
  return absl::StrJoin(ids, ", ", [](std::string* out, const StopId& stop) {
    absl::StrAppendFormat(out, "%d %s (%s)", stop.id, stop.text, stop.source);
  });
}

StopIdPlan PlanStopIds(std::span<const TokenId> configured, std::string_view eos_token,
                       std::span<const TurnEnd> turn_ends, const Tokenizer& tokenizer,
                       int vocab_size) {
  StopIdPlan plan;
  const auto has = [&plan](TokenId id) {
    return std::any_of(plan.ids.begin(), plan.ids.end(),
                       [id](const StopId& stop) { return stop.id == id; });
  };
  const auto add = [&](TokenId id, std::string source) {
    if (has(id)) return;
    if (id < 0 || id >= vocab_size || !tokenizer.HasToken(id)) {
      plan.remarks.push_back(absl::StrFormat(
          "stop id %d (%s) is no token of the tokenizer and the model's %d ids; it is left out", id,
          source, vocab_size));
      return;
    }
    plan.ids.push_back({id, std::string(tokenizer.TokenText(id)), std::move(source)});
  };
  for (const TokenId id : configured) add(id, "eos_token_id");
  const bool none_configured = plan.ids.empty();
  if (!eos_token.empty()) {
    if (const auto id = tokenizer.FindToken(eos_token)) {
      add(*id, "eos_token");
    } else {
      plan.remarks.push_back(absl::StrFormat(
          "tokenizer_config.json: eos_token \"%s\" is no token of the tokenizer", eos_token));
    }
  }
  for (const TurnEnd& end : turn_ends) {
    add(end.id, absl::StrFormat("chat template, before %s", end.before));
  }
  if (plan.ids.empty()) {
    plan.remarks.push_back(
        "no stop id in config.json, generation_config.json, tokenizer_config.json or the chat "
        "template: answers run until max_tokens or a stop string of the request");
  } else if (none_configured) {
    plan.remarks.push_back(
        absl::StrFormat("config.json and generation_config.json give no usable eos_token_id; "
                        "answers end at %s",
                        plan.Text()));
  }
  return plan;
}

}  // namespace sheaf
