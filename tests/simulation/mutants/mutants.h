#pragma once
// Mutants: the protocol with one rule broken, in the simulated drivers around the real state
// machines. A simulation that cannot tell a mutant from the real thing proves nothing.

#include <array>

namespace sheaf::simulation {

enum class Mutant {
  kNone,
  kSkipLinkCheck,        // a frame of another life of the link is taken
  kDropBeforeSeen,       // an expert goes before routers have seen that it will
  kCountTwice,           // a late answer's pairs are counted again
  kErrorCounts,          // an error frame counts as the answer
  kNeverLate,            // nobody is ever late: no second holder is asked
  kForgetOwed,           // what a worker still owes is forgotten at the layer's end
  kLeasesWhileAsleep,    // a coordinator that slept judges by the clock
  kIgnoreMemory,         // plans do not know what fits
  kKeepLostLink,         // the layer is not told that a link broke
  kIgnoreDifferences,    // verification compares and says nothing
};

inline constexpr std::array kMutants = {
    Mutant::kSkipLinkCheck, Mutant::kDropBeforeSeen, Mutant::kCountTwice,
    Mutant::kErrorCounts,   Mutant::kNeverLate,      Mutant::kForgetOwed,
    Mutant::kLeasesWhileAsleep, Mutant::kIgnoreMemory, Mutant::kKeepLostLink,
    Mutant::kIgnoreDifferences};

inline const char* NameOf(Mutant mutant) {
  static constexpr std::array<const char*, 11> kNames = {
      "none",       "skip_link_check", "drop_before_seen",    "count_twice",
      "error_counts", "never_late",    "forget_owed",         "leases_while_asleep",
      "ignore_memory", "keep_lost_link", "ignore_differences"};
  return kNames[static_cast<size_t>(mutant)];
}

}  // namespace sheaf::simulation
