#include "exchange/pool/answer_comparison.h"

#include <cstring>
#include <utility>

namespace sheaf {

bool SameBits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

Judgement JudgeByReference(const Dispute& dispute, std::vector<float> right) {
  Judgement judgement;
  judgement.decided = true;
  for (const ExpertAnswer& answer : dispute.answers) {
    if (!SameBits(answer.rows, right)) judgement.wrong.push_back(answer.worker);
  }
  judgement.right = std::move(right);
  return judgement;
}

Judgement JudgeByMajority(const Dispute& dispute) {
  for (size_t i = 0; i < dispute.answers.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (SameBits(dispute.answers[i].rows, dispute.answers[j].rows))
        return JudgeByReference(dispute, dispute.answers[i].rows);
    }
  }
  return {};
}

}  // namespace sheaf
