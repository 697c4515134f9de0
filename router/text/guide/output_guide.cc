#include "router/text/guide/output_guide.h"

#include <cstdint>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/status.h"

namespace sheaf {
namespace {

absl::Status CheckPlan(const GuidePlan& plan) {
  const bool thinks = plan.start != ThoughtStart::kNoThoughts;
  if ((plan.thinking_token_budget.has_value() || (thinks && plan.grammar != nullptr)) &&
      !plan.tags.think_end.has_value()) {
    return absl::InternalError("a guide over thoughts needs the token that ends them");
  }
  const bool opens = plan.start == ThoughtStart::kWrittenByModel && plan.grammar != nullptr;
  if (opens && (!plan.tags.think_begin.has_value() || plan.open_thoughts.empty() ||
                plan.open_thoughts.back() != plan.tags.think_begin)) {
    return absl::InternalError("the tokens that open thoughts must end with their tag");
  }
  return absl::OkStatus();
}

}  // namespace

OutputGuide::OutputGuide(std::shared_ptr<const GuidePlan> plan, bool append_grammar_runs)
    : plan_(std::move(plan)),
      append_grammar_runs_(append_grammar_runs),
      thoughts_(plan_->tags, plan_->start == ThoughtStart::kInside) {}

absl::StatusOr<std::unique_ptr<OutputGuide>> OutputGuide::Create(
    std::shared_ptr<const GuidePlan> plan, bool append_grammar_runs) {
  SHEAF_RETURN_IF_ERROR(CheckPlan(*plan));
  std::unique_ptr<OutputGuide> guide(new OutputGuide(std::move(plan), append_grammar_runs));
  const GuidePlan& wanted = *guide->plan_;
  if (wanted.grammar != nullptr) {
    SHEAF_ASSIGN_OR_RETURN(guide->grammar_, wanted.grammar->Start());
    if (wanted.start == ThoughtStart::kWrittenByModel) {
      guide->forced_.assign(wanted.open_thoughts.begin(), wanted.open_thoughts.end());
    }
  }
  guide->FindForced();
  return guide;
}

std::optional<TokenId> OutputGuide::forced() const {
  if (forced_.empty()) return std::nullopt;
  return forced_.front();
}

GuideRule OutputGuide::rule() const {
  if (grammar_ == nullptr) return GuideRule::kFree;
  if (phase_ != Phase::kGrammar) return GuideRule::kNoStop;
  if (grammar_->finished()) return GuideRule::kStopOnly;
  return grammar_->accepting() ? GuideRule::kGrammarOrStop : GuideRule::kGrammar;
}

absl::Status OutputGuide::ComputeMask(std::span<uint32_t> mask) {
  return grammar_->ComputeMask(mask);
}

absl::Status OutputGuide::Accept(TokenId token) {
  if (!forced_.empty()) {
    SHEAF_CHECK(token == forced_.front(), "a forced token is not sampled");
    forced_.pop_front();
  }
  if (phase_ == Phase::kGrammar) {
    SHEAF_RETURN_IF_ERROR(grammar_->Accept(token));
  } else {
    thoughts_.Accept(token);
  }
  FindForced();
  return absl::OkStatus();
}

// Fills forced_ when it is empty and something is forced now.
void OutputGuide::FindForced() {
  if (!forced_.empty()) return;
  const std::vector<TokenId>& before_answer = plan_->before_answer;
  if (phase_ == Phase::kThoughtsOrFree && thoughts_.inside()) {
    if (thoughts_.num_tokens() < plan_->thinking_token_budget.value_or(INT32_MAX)) return;
    forced_.push_back(*plan_->tags.think_end);
    if (grammar_ == nullptr) {
      forced_.insert(forced_.end(), before_answer.begin(), before_answer.end());
    }
    return;
  }
  if (grammar_ == nullptr) return;
  if (phase_ == Phase::kThoughtsOrFree) {
    phase_ = Phase::kBeforeAnswer;
    forced_.assign(before_answer.begin(), before_answer.end());
    if (!forced_.empty()) return;
  }
  phase_ = Phase::kGrammar;
  if (!append_grammar_runs_) return;
  const std::vector<TokenId> run = grammar_->ForcedTokens();
  forced_.assign(run.begin(), run.end());
}

}  // namespace sheaf
