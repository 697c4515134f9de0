#include "cli/model_identity.h"

#include "base/status.h"
#include "model/files/checkpoint_digest.h"

namespace sheaf {

absl::StatusOr<ModelIdentity> IdentityOf(const Checkpoint& checkpoint, const ModelConfig& config) {
  SHEAF_ASSIGN_OR_RETURN(const uint64_t digest, CheckpointDigest(checkpoint));
  return ModelIdentity{.config_hash = digest,
                       .num_layers = config.num_layers,
                       .first_moe_layer = config.num_dense_layers,
                       .num_experts = config.num_experts,
                       .hidden_size = config.hidden_size};
}

absl::StatusOr<ModelIdentity> IdentityOf(const std::string& checkpoint_dir,
                                         const ModelConfig& config) {
  SHEAF_ASSIGN_OR_RETURN(const auto checkpoint, Checkpoint::Open(checkpoint_dir));
  return IdentityOf(*checkpoint, config);
}

}  // namespace sheaf
