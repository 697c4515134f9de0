#include "router/schedule/speculation/draft_record.h"

#include <algorithm>

namespace sheaf {
namespace {

constexpr double kNewest = 0.15;  // the weight of the newest outcome
constexpr double kHopeful = 0.5;  // below it a whole draft's first token is a vain attempt

}  // namespace

double DraftRecord::Accepted(int length) const {
  double probability = 1;
  for (int i = 0; i < std::min(length, kLongest); ++i) probability *= shares_[i].value;
  return length > kLongest ? 0 : probability;
}

void DraftRecord::Tried(int drafted, int accepted) {
  for (int i = 0; i < std::min({drafted, accepted + 1, kLongest}); ++i) {
    shares_[i].value += kNewest * ((i < accepted ? 1.0 : 0.0) - shares_[i].value);
  }
  passed_ = 0;
  if (accepted > 0) {
    pause_ = kFirstPause;
  } else if (shares_[0].value < kHopeful) {
    pause_ = std::min(2 * pause_, kLongestPause);
  }
}

void DraftRecord::Passed() { passed_ = std::min(passed_ + 1, kLongestPause); }

}  // namespace sheaf
