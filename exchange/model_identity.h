#pragma once
// ModelIdentity: what router and workers must agree on before their outputs mean anything. Compared
// at Join.

#include <cstdint>
#include <string_view>

namespace sheaf {

struct ModelIdentity {
  uint64_t config_hash = 0;  // HashConfig of config.json's bytes
  int num_layers = 0;        // decoder layers, dense ones included
  int first_moe_layer = 0;
  int num_experts = 0;  // routed experts a layer
  int hidden_size = 0;
  friend bool operator==(const ModelIdentity&, const ModelIdentity&) = default;
};

// FNV-1a, 64 bit; never 0.
constexpr uint64_t HashConfig(std::string_view config_json) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : config_json) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  return hash == 0 ? 1 : hash;
}

// Version of the control plane and of the frames together.
inline constexpr uint32_t kClusterProtocolVersion = 1;

}  // namespace sheaf
