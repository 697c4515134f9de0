#include "cli/model_identity.h"

#include <fstream>
#include <iterator>

namespace sheaf {

absl::StatusOr<ModelIdentity> IdentityOf(const std::string& checkpoint_dir,
                                         const ModelConfig& config) {
  std::ifstream file(checkpoint_dir + "/config.json", std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (!file) return absl::NotFoundError(checkpoint_dir + "/config.json: cannot be read");
  return ModelIdentity{.config_hash = HashConfig(text),
                       .num_layers = config.num_layers,
                       .first_moe_layer = config.num_dense_layers,
                       .num_experts = config.num_experts,
                       .hidden_size = config.hidden_size};
}

}  // namespace sheaf
