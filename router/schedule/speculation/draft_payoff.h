#pragma once
// DraftPayoff: whether steps with drafts really give more tokens per second than steps without, by
// the clock. The cost model says beforehand what a row should cost; this says afterwards what it
// did, whatever the reason was.
//
// Steps of like numbers of sequences are compared with each other (by powers of two); steps with
// prompts in them are not told. Each kind of a class has a running mean of its time per token. With
// too few of one kind, it is that kind's turn. Drafts that do not pay are left out for a pause that
// doubles with each vain attempt (kFirstPause to kLongestPause steps), and while they pay one step
// in kPlainEvery goes without, so that the comparison stays young.
//
// Threads    one. Cost  O(1).

#include <array>
#include <cstdint>

#include "base/clock.h"

namespace sheaf {

class DraftPayoff {
 public:
  static constexpr int kFew = 8;  // steps of a kind that say little yet
  static constexpr int kPlainEvery = 32;
  static constexpr int kFirstPause = 64, kLongestPause = 4096;  // steps

  // Whether the next step of so many decoding sequences may have drafts.
  bool MayDraft(int sequences) const;
  // A step of decoding sequences alone ran to its end and gave so many tokens.
  void StepRan(int sequences, bool drafted, int tokens, Duration took);

 private:
  static constexpr int kClasses = 16;
  struct Kind {
    int steps = 0;              // of the last comparison on
    double us_per_token = 0;    // running mean
  };
  struct Class {
    Kind plain, drafted;
    int since_plain = 0;  // drafted steps in a row
    int left_out = 0;     // steps of the pause still to come
    int pause = kFirstPause;
  };
  static size_t ClassOf(int sequences);

  std::array<Class, kClasses> classes_{};
};

}  // namespace sheaf
