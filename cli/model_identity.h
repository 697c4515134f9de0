#pragma once
// What a process tells others about the checkpoint in front of it, so that only like is joined with
// like.
//
// Errors: kNotFound when config.json cannot be read.

#include <string>

#include "absl/status/statusor.h"
#include "exchange/model_identity.h"
#include "model/config.h"

namespace sheaf {

absl::StatusOr<ModelIdentity> IdentityOf(const std::string& checkpoint_dir,
                                         const ModelConfig& config);

}  // namespace sheaf
