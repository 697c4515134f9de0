#pragma once
// Where the time of decoder steps goes, stage by stage, summed over layers and steps.
//
// Threads: written by the step thread; read it between steps. Cost: two clock reads a stage (50 ns)
// when asked for.

#include <chrono>
#include <cstdint>

namespace sheaf {

struct StepTimings {
  using Nanoseconds = std::chrono::nanoseconds;

  int64_t steps = 0;
  Nanoseconds embedding{0};
  Nanoseconds norm{0};          // residual, RMSNorm, quantize
  Nanoseconds projections{0};   // attention's input products, the indexer's included
  Nanoseconds rope_store{0};    // norms and RoPE inside attention, keys and values into the cache
  Nanoseconds indexer{0};       // scores and choice of positions
  Nanoseconds absorption{0};    // into the latent's space and out of it
  Nanoseconds attention{0};     // over the cache
  Nanoseconds output{0};        // quantize, o_proj
  Nanoseconds gate{0};          // expert gate product and selection
  Nanoseconds feed_forward{0};  // dense MLP, or a shared expert that the next does not take
  Nanoseconds experts{0};       // ExpertLayer Begin and Finish
  Nanoseconds gather{0};        // among ranks
  Nanoseconds lm_head{0};       // final norm and logits
  Nanoseconds total{0};         // of Forward, the callback for the logits included
};

// Adds the time from construction to destruction to a stage; does nothing without timings.
class StageTimer {
 public:
  StageTimer(StepTimings* timings, StepTimings::Nanoseconds StepTimings::*stage)
      : sum_(timings == nullptr ? nullptr : &(timings->*stage)) {
    if (sum_ != nullptr) start_ = std::chrono::steady_clock::now();
  }
  ~StageTimer() {
    if (sum_ != nullptr) *sum_ += std::chrono::steady_clock::now() - start_;
  }
  StageTimer(const StageTimer&) = delete;
  StageTimer& operator=(const StageTimer&) = delete;

 private:
  StepTimings::Nanoseconds* const sum_;
  std::chrono::steady_clock::time_point start_;
};

}  // namespace sheaf
