#pragma once
// ExchangeTotals: what a router's expert layer has sent, received and waited for since it was asked
// last. For metrics and the coordinator's report.

#include <array>
#include <cstdint>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "exchange/layer/layer_statistics.h"

namespace sheaf {

// Upper bounds in seconds of the buckets of answer times; one more bucket holds what is longer.
inline constexpr std::array<double, 14> kAnswerBuckets = {
    0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5};

struct ExchangeTotals {
  Duration dispatch{0};  // planning, packing, sending
  Duration combine{0};   // waiting and adding
  struct Worker {
    WorkerId worker;
    int64_t sent_bytes = 0;
    int64_t received_bytes = 0;  // when they arrived, late ones too
    int64_t pairs = 0;           // asked for
    double units = 0;            // of work (answer_times.h) asked for
    int64_t answers = 0;         // in time
    double answer_seconds = 0;   // of those
    double longest_answer_seconds = 0;
    std::array<int64_t, kAnswerBuckets.size() + 1> answer_buckets{};  // of those, not cumulative
  };
  std::vector<Worker> workers;  // by ascending id
  LayerStatistics layers;
  int64_t compared_pairs = 0;   // answered twice, compared bit for bit
  int64_t differing_pairs = 0;  // of those
};

}  // namespace sheaf
