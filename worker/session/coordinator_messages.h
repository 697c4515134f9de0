#pragma once
// What worker and coordinator say to each other, between the messages of pool.proto and this
// program's words. Nothing that the coordinator says is believed before it fits the model.
//
// Errors     kInvalidArgument naming field, wanted, got. Threads: pure.

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/ids.h"
#include "exchange/model_identity.h"
#include "sheaf/v1/pool.pb.h"
#include "worker/holdings/holding_plan.h"

namespace sheaf {

struct Welcome {
  WorkerId id;
  Duration lease{0};
};
absl::StatusOr<Welcome> WelcomeOf(const v1::WorkerWelcome& message);
// An expert that is listed twice counts where it is first.
absl::StatusOr<HoldRequest> HoldRequestOf(const v1::Hold& message, const ModelIdentity& model);
absl::StatusOr<LayerExpert> ReloadOf(const v1::ReloadExpert& message, const ModelIdentity& model);

v1::ModelIdentity MessageOf(const ModelIdentity& model);

}  // namespace sheaf
