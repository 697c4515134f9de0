#pragma once
// A small whole model for tests: its config and every tensor, in one storage or a mix, ready to be
// written or damaged first. Tensors keep the matrices they were made from.
//
// Threads  one.

#include <map>
#include <random>
#include <string>
#include <vector>

#include "model/config.h"
#include "tests/model/checkpoint_writer.h"

namespace sheaf::testing {

enum class TinyStorage { kGptq, kPackQuantized, kBf16, kFusedF32 };

struct TinyModel {
  std::string config_json;
  ModelConfig config;
  TestTensors tensors;
  std::map<std::string, std::vector<float>> matrices;  // by module name, [n][k]

  void Write(const std::string& directory, int shards = 1) const;
};

// hidden 128, 4 heads of 64 on 2 KV heads, layer 0 dense, layers 1 and 2 with `num_experts` experts
// of width 128. `storage` is that of the routed experts; attention is GPTQ with biases, the rest
// bf16.
TinyModel MakeTinyModel(TinyStorage storage, int num_experts, std::mt19937_64& random,
                        bool tied_head = false);

}  // namespace sheaf::testing
