// Bytes from another process: every token and block that a plan names can be read and is in bounds.

#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "router/attention/step_plan.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sheaf;
  const ReceivedStepPlan::Bounds bounds{.block_size = 4, .num_blocks = 64, .max_positions = 200};
  const auto plan = ReceivedStepPlan::Decode({data, size}, bounds);
  if (!plan.ok()) return 0;
  volatile int64_t sum = 0;
  for (const StepSequence& sequence : plan->sequences()) {
    if (sequence.first_position < 0 || sequence.first_logit_token < 0) std::abort();
    const size_t end = sequence.first_position + sequence.tokens.size();
    if (end > 200 || sequence.block_table.size() * 4 < end) std::abort();
    for (const TokenId token : sequence.tokens) sum = sum + token;
    for (const int32_t block : sequence.block_table) {
      if (block < 0 || block >= 64) std::abort();
    }
  }
  // What it says is what would be sent.
  const std::vector<uint8_t> again = EncodeStepPlan(plan->sequences(), 4);
  if (again.size() != size || !std::equal(again.begin(), again.end(), data)) std::abort();
  return 0;
}
