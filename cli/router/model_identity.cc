#include "cli/router/model_identity.h"

#include <filesystem>

#include "base/status.h"
#include "model/files/checkpoint_digest.h"

namespace sheaf {
namespace {

// "glm" for "models/glm/".
std::string FolderName(const std::string& directory) {
  const auto path = std::filesystem::absolute(directory).lexically_normal();
  return (path.has_filename() ? path : path.parent_path()).filename().string();
}

}  // namespace

absl::StatusOr<ModelIdentity> IdentityOf(const Checkpoint& checkpoint, const ModelConfig& config) {
  SHEAF_ASSIGN_OR_RETURN(const uint64_t digest, CheckpointDigest(checkpoint));
  return ModelIdentity{.digest = digest,
                       .num_layers = config.num_layers,
                       .first_moe_layer = config.num_dense_layers,
                       .num_experts = config.num_experts,
                       .hidden_size = config.hidden_size,
                       .name = FolderName(checkpoint.directory())};
}

absl::StatusOr<ModelIdentity> IdentityOf(const std::string& checkpoint_dir,
                                         const ModelConfig& config) {
  SHEAF_ASSIGN_OR_RETURN(const auto checkpoint, Checkpoint::Open(checkpoint_dir));
  return IdentityOf(*checkpoint, config);
}

}  // namespace sheaf
