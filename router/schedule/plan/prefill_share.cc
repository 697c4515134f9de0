#include "router/schedule/plan/prefill_share.h"

#include <algorithm>
#include <limits>
#include <tuple>

namespace sheaf {
namespace {

constexpr double kNoLimit = std::numeric_limits<double>::infinity();

class Sharing {
 public:
  Sharing(const PrefillBounds& bounds, const StepCostModel* cost, StepShape& shape)
      : bounds_(bounds),
        cost_(shape.decode_rows > 0 ? cost : nullptr),
        decodes_ms_(cost_ == nullptr ? 0 : cost_->PredictMs(shape)),
        tokens_(bounds.tokens),
        free_blocks_(bounds.free_blocks),
        shape_(shape) {}

  double target_ms() const {
    if (cost_ == nullptr) return kNoLimit;
    if (bounds_.target_step_ms == 0) return kStepGrowth * decodes_ms_;
    return std::max(bounds_.target_step_ms, kLeastStepGrowth * decodes_ms_);
  }

  // The time of a step that holds `share` of the prefill.
  double TargetOf(double share) const {
    return cost_ == nullptr ? kNoLimit : decodes_ms_ + share * (target_ms() - decodes_ms_);
  }

  // As many tokens as `prefill` could take besides what it has.
  int Possible(const Prefill& prefill, int at_most, double until_ms) const {
    const int64_t position = int64_t{prefill.computed_tokens} + prefill.num_tokens;
    const int left = prefill.missing_tokens - prefill.num_tokens;
    const int64_t room =
        (int64_t{prefill.owned_blocks} + prefill.new_blocks + free_blocks_) * bounds_.block_size -
        position;
    const int most = static_cast<int>(
        std::clamp<int64_t>(std::min({left, at_most, tokens_}), 0, std::max<int64_t>(0, room)));
    if (until_ms == kNoLimit || most == 0) return most;
    return cost_->LargestPrefill(shape_, position, most, left, until_ms);
  }

  void Give(Prefill& prefill, int num_tokens) {
    if (num_tokens < 1) return;
    shape_.Add(/*decode=*/false, int64_t{prefill.computed_tokens} + prefill.num_tokens, num_tokens);
    prefill.num_tokens += num_tokens;
    if (prefill.num_tokens == prefill.missing_tokens) ++shape_.logit_rows;
    const int64_t end = int64_t{prefill.computed_tokens} + prefill.num_tokens;
    const int blocks = static_cast<int>((end + bounds_.block_size - 1) / bounds_.block_size);
    const int more = std::max(0, blocks - prefill.owned_blocks - prefill.new_blocks);
    prefill.new_blocks += more;
    free_blocks_ -= more;
    tokens_ -= num_tokens;
  }

  void GiveSenior(Prefill& senior) {
    const int quarter = Possible(senior, tokens_ / kShareOfSenior, TargetOf(1.0 / kShareOfSenior));
    const int missing = senior.missing_tokens;
    if (quarter >= std::min(bounds_.block_size, missing)) {
      Give(senior, quarter);
    } else if (bounds_.step - senior.last_step >= kShareOfSenior) {
      Give(senior, std::max(Possible(senior, tokens_, target_ms()), Possible(senior, 1, kNoLimit)));
    }
  }

 private:
  const PrefillBounds& bounds_;
  const StepCostModel* cost_;  // null: no bound of time
  const double decodes_ms_;
  int tokens_;
  int free_blocks_;
  StepShape& shape_;
};

}  // namespace

double SharePrefill(const PrefillBounds& bounds, const StepCostModel* cost, StepShape& shape,
                    std::vector<Prefill>& prefills) {
  if (prefills.empty() || bounds.tokens < 1) return 0;
  const int rows_before = shape.prefill_rows;
  Sharing sharing(bounds, cost, shape);
  const auto senior =
      std::min_element(prefills.begin(), prefills.end(), [](const Prefill& a, const Prefill& b) {
        return std::tie(a.priority, a.id) < std::tie(b.priority, b.id);
      });
  std::vector<Prefill*> order;
  for (Prefill& prefill : prefills) order.push_back(&prefill);
  std::sort(order.begin(), order.end(), [](const Prefill* a, const Prefill* b) {
    return std::tie(a->priority, a->missing_tokens, a->id) <
           std::tie(b->priority, b->missing_tokens, b->id);
  });
  const double target_ms = sharing.target_ms();
  if (order.front() != &*senior) sharing.GiveSenior(*senior);
  for (Prefill* prefill : order) {
    sharing.Give(*prefill, sharing.Possible(*prefill, bounds.tokens, target_ms));
  }
  for (Prefill* prefill : order) {
    if (shape.prefill_rows > rows_before) break;
    sharing.Give(*prefill, sharing.Possible(*prefill, 1, kNoLimit));
  }
  return target_ms == kNoLimit ? 0 : target_ms;
}

}  // namespace sheaf
