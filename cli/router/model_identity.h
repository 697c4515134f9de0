#pragma once
// What a process tells others about the checkpoint in front of it, so that only like is joined with
// like.
//
// Errors: those of model/files/checkpoint_digest.h.

#include <string>

#include "absl/status/statusor.h"
#include "exchange/model_identity.h"
#include "model/checkpoint.h"
#include "model/config.h"

namespace sheaf {

absl::StatusOr<ModelIdentity> IdentityOf(const Checkpoint& checkpoint, const ModelConfig& config);
// Opens it first.
absl::StatusOr<ModelIdentity> IdentityOf(const std::string& checkpoint_dir,
                                         const ModelConfig& config);

}  // namespace sheaf
