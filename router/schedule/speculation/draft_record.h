#pragma once
// DraftRecord: how often the drafts of one sequence came true, by position, with the newest
// counting most; what the next ones are worth follows from it.
//
// A sequence that is not drafted for stops learning. So after a pause that doubles with every vain
// attempt (kFirstPause to kLongestPause tokens) a short draft is worth trying again.
//
// Threads    one. Cost  O(longest draft).

#include <array>

namespace sheaf {

class DraftRecord {
 public:
  static constexpr int kLongest = 16;  // tokens of a draft
  static constexpr int kFirstPause = 16;
  static constexpr int kLongestPause = 512;

  // The probability that the first `length` tokens of a draft all come true. [0, 1]
  double Accepted(int length) const;

  // A step drafted `drafted` >= 1 tokens and the first `accepted` of them came true.
  void Tried(int drafted, int accepted);
  // A step gave one token without a draft, though there was one.
  void Passed();

  // Whether it is time to draft although it did not pay.
  bool ShouldProbe() const { return passed_ >= pause_; }

 private:
  // Of the drafts whose tokens before this one came true, the share in which this one did too.
  // Begins hopeful: the first drafts are tried.
  struct Share {
    double value = 0.7;
  };
  std::array<Share, kLongest> shares_;
  int passed_ = 0;
  int pause_ = kFirstPause;
};

}  // namespace sheaf
