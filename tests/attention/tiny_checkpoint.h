#pragma once
// A tiny random checkpoint on disk, loaded as the router does it, for the tests of attention and
// schedule: one dense layer, two of experts; glm4_moe, or glm_moe_dsa with an indexer in the first
// and the last layer; float32, or experts and some of the rest in 4 bits.
//
// Ownership  removes its directory. Threads  constant after construction.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "exchange/cpu_experts.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/decoder_weights.h"
#include "model/expert_slice.h"

namespace sheaf::testing {

struct TinyCheckpointOptions {
  uint64_t seed = 0;
  int vocab_size = 278;
  bool four_bit = false;  // GPTQ experts, q, o and dense MLP; the rest stays float32
  bool shared_expert = true;
  bool latent = false;  // glm_moe_dsa
  LmHeadDtype lm_head = LmHeadDtype::kAuto;
};

class TinyCheckpoint {
 public:
  explicit TinyCheckpoint(const TinyCheckpointOptions& options);
  ~TinyCheckpoint();
  TinyCheckpoint(const TinyCheckpoint&) = delete;
  TinyCheckpoint& operator=(const TinyCheckpoint&) = delete;

  const ModelConfig& config() const { return config_; }
  HeadRange all_heads() const { return AllHeads(config_); }
  const DecoderWeights& weights() const { return *weights_; }
  // One rank's part of them.
  std::unique_ptr<DecoderWeights> WeightsOf(const RankShare& share) const;
  const HeldExperts& experts() const { return *experts_; }

  // Values of a float32 tensor as they were written.
  const std::vector<float>& tensor(const std::string& name) const {
    return float_tensors_.at(name);
  }
  bool has_tensor(const std::string& name) const { return float_tensors_.contains(name); }

 private:
  const LmHeadDtype lm_head_;
  std::string directory_;
  ModelConfig config_;
  std::map<std::string, std::vector<float>> float_tensors_;
  std::unique_ptr<DecoderWeights> weights_;
  std::unique_ptr<ExpertSlice> slice_;
  std::unique_ptr<CpuExperts> experts_;
};

}  // namespace sheaf::testing
