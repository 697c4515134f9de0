#pragma once
// What `sheaf inspect --memory-bandwidth` says: how long a step of so many rows would take
// (model/inspect/step_time.h).
//
// Threads    pure.
// Errors     kInvalidArgument: the model cannot be shared by so many ranks, or the cache has no
//            such format.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "cli/options/options.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/inspect/inspect.h"
#include "model/inspect/step_time.h"

namespace sheaf {

struct StepTimes {
  struct Row {
    int rows = 0;
    int64_t context_tokens = 0;
    StepTime time;
  };
  int ranks = 1;
  int workers = 1;
  std::vector<Row> rows;
};

absl::StatusOr<StepTimes> PredictStepTimes(const InspectOptions& options,
                                           const Checkpoint& checkpoint, const ModelConfig& config,
                                           const InspectReport& report);

std::string StepTimesText(const StepTimes& times);
// `report_json` with the member step_times.
std::string WithStepTimesJson(std::string_view report_json, const StepTimes& times);

}  // namespace sheaf
