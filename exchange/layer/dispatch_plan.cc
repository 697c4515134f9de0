#include "exchange/layer/dispatch_plan.h"

#include <algorithm>

#include "absl/strings/str_format.h"

namespace sheaf {

absl::Status PlanDispatch(const Routes& routes, std::span<const WorkerId> holder_of_expert,
                          std::span<const uint8_t> done, DispatchPlan& plan) {
  const int num_experts = static_cast<int>(holder_of_expert.size());
  const int num_slots = routes.num_tokens * routes.top_k;
  plan.num_workers_ = 0;
  plan.expert_count_.assign(static_cast<size_t>(num_experts), 0);
  plan.expert_cursor_.assign(static_cast<size_t>(num_experts), 0);

  int32_t highest_worker = -1;
  for (int slot = 0; slot < num_slots; ++slot) {
    if (!done.empty() && done[static_cast<size_t>(slot)]) continue;
    const int32_t expert = routes.expert_ids[slot];
    if (expert < 0 || expert >= num_experts) {
      return absl::InvalidArgumentError(absl::StrFormat("layer %d, token row %d: expert %d of %d",
                                                        routes.layer.value(), slot / routes.top_k,
                                                        expert, num_experts));
    }
    if (holder_of_expert[expert].value() < 0) continue;
    ++plan.expert_count_[expert];
    highest_worker = std::max(highest_worker, holder_of_expert[expert].value());
  }

  // Which workers take part, by ascending id; then each worker's runs in expert order.
  plan.plan_of_worker_.assign(static_cast<size_t>(highest_worker + 1), -1);
  for (int expert = 0; expert < num_experts; ++expert) {
    if (plan.expert_count_[expert] > 0) plan.plan_of_worker_[holder_of_expert[expert].value()] = 0;
  }
  for (int32_t worker = 0; worker <= highest_worker; ++worker) {
    if (plan.plan_of_worker_[worker] < 0) continue;
    plan.plan_of_worker_[worker] = static_cast<int32_t>(plan.num_workers_++);
    if (plan.workers_.size() < plan.num_workers_) plan.workers_.emplace_back();
    WorkerPlan& entry = plan.workers_[plan.num_workers_ - 1];
    entry.worker = WorkerId(worker);
    entry.token_rows.clear();
    entry.experts.clear();
    entry.rows.clear();
    entry.slots.clear();
  }
  plan.last_token_.assign(plan.num_workers_, -1);
  for (int expert = 0; expert < num_experts; ++expert) {
    const int32_t count = plan.expert_count_[expert];
    if (count == 0) continue;
    WorkerPlan& entry = plan.workers_[plan.plan_of_worker_[holder_of_expert[expert].value()]];
    plan.expert_cursor_[expert] = entry.num_pairs();
    entry.experts.push_back({expert, count});
    entry.rows.resize(entry.rows.size() + static_cast<size_t>(count));
    entry.slots.resize(entry.rows.size());
  }

  for (int token = 0; token < routes.num_tokens; ++token) {
    for (int k = 0; k < routes.top_k; ++k) {
      const int slot = token * routes.top_k + k;
      if (!done.empty() && done[static_cast<size_t>(slot)]) continue;
      const int32_t expert = routes.expert_ids[slot];
      if (plan.expert_count_[expert] == 0) continue;
      const int32_t index = plan.plan_of_worker_[holder_of_expert[expert].value()];
      WorkerPlan& entry = plan.workers_[index];
      if (plan.last_token_[index] != token) {
        plan.last_token_[index] = token;
        entry.token_rows.push_back(token);
      }
      const int32_t pair = plan.expert_cursor_[expert]++;
      entry.rows[pair] = static_cast<int32_t>(entry.token_rows.size()) - 1;
      entry.slots[pair] = slot;
    }
  }
  return absl::OkStatus();
}

}  // namespace sheaf
