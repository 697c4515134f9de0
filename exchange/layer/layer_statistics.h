#pragma once
// LayerStatistics: what the layer's state machine counts, for metrics.

#include <array>
#include <cstddef>
#include <cstdint>

namespace sheaf {

// Why a worker is asked for an expert.
enum class AskCause : uint8_t {
  kFirst = 0,
  kLinkLost = 1,
  kNotHeld = 2,
  kLate = 3,
  kError = 4,
  kFull = 5,     // the first one's link had no room
  kNoHolder = 6,  // it waited for somebody to hold it
  kVerify = 7,
  kProbe = 8,
};
inline constexpr size_t kNumAskCauses = 9;

// For messages and metric labels.
inline const char* Name(AskCause cause) {
  static constexpr std::array<const char*, kNumAskCauses> kNames = {
      "first", "link lost", "not held", "late", "error", "full", "no holder", "verify", "probe"};
  return kNames[static_cast<size_t>(cause)];
}

struct LayerStatistics {
  std::array<int64_t, kNumAskCauses> pairs{};  // asked for, by cause; kFirst are no repetitions
  int64_t hedges_won = 0;    // the second one's answer was used
  int64_t hedges_lost = 0;   // it was not
  int64_t late_answers = 0;  // of asks that were over; dropped
  int64_t given_up = 0;      // layers
};

}  // namespace sheaf
