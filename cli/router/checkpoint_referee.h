#pragma once
// The referee between two workers whose answers differ: reads the expert from the checkpoint again
// and computes its answer here (exchange/pool/pooled_expert_layer.h).
//
// Threads    the step thread. Ownership: keeps the checkpoint open.
// Cost       reads one expert; rows are computed on one thread. It is called when something is
//            broken.
// Errors     Make: as ExpertReader::Create.

#include <memory>

#include "absl/status/statusor.h"
#include "exchange/pool/pooled_expert_layer.h"
#include "model/checkpoint.h"
#include "model/config.h"

namespace sheaf {

// The answer is as float32, or rounded to int16 groups as a combine of that element brings it.
absl::StatusOr<Referee> MakeCheckpointReferee(std::shared_ptr<const Checkpoint> checkpoint,
                                              const ModelConfig& config, FrameElement element);

}  // namespace sheaf
