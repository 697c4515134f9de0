#pragma once
// ModelIdentity: what routers, workers and the coordinator must agree on before their outputs mean
// anything. Compared when a worker or a router joins; links carry the digest.

#include <cstdint>
#include <string>

namespace sheaf {

struct ModelIdentity {
  // Of config.json, the headers of all shards and sampled bytes of each (model/files/digest.h).
  uint64_t digest = 0;
  int num_layers = 0;  // decoder layers, dense ones included
  int first_moe_layer = 0;
  int num_experts = 0;  // routed experts a layer
  int hidden_size = 0;
  std::string name;  // for messages; not compared

  friend bool operator==(const ModelIdentity& a, const ModelIdentity& b) {
    return a.digest == b.digest && a.num_layers == b.num_layers &&
           a.first_moe_layer == b.first_moe_layer && a.num_experts == b.num_experts &&
           a.hidden_size == b.hidden_size;
  }
};

// Version of the control plane and of the frames together.
inline constexpr uint32_t kPoolProtocolVersion = 3;

}  // namespace sheaf
