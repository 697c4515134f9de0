#pragma once
// ExpertSlice: the routed experts that one process holds, ready to run.
//
// Ownership  owns all its weights; the Checkpoint and its files are not needed after Load.
// Threads    Load uses the pool's threads; afterwards constant, any thread.
// Errors     as model/linear_loader.h; also kInvalidArgument for a (layer, expert) outside the
//            model; kDataLoss when a file of the checkpoint changed meanwhile.
// Cost       reads the slice's bytes once, from page cache at memory speed. Resident memory is the
//            packed slice, and while loading the scratch of model/linear_loader.h for each thread.

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "base/ids.h"
#include "base/thread_pool.h"
#include "kernels/experts/expert_ffn.h"
#include "model/checkpoint.h"
#include "model/config.h"

namespace sheaf {

// Called from loading threads, serialised: bytes so far and in all.
using LoadProgress = std::function<void(size_t done_bytes, size_t total_bytes)>;

class ExpertSlice {
 public:
  static absl::StatusOr<std::unique_ptr<ExpertSlice>> Load(
      const Checkpoint& checkpoint, const ModelConfig& config, std::span<const LayerExpert> experts,
      ThreadPool& pool, const LoadProgress& progress);
  ~ExpertSlice();

  // Null when the slice does not hold it.
  const kernels::ExpertWeights* Find(LayerId layer, ExpertId expert) const;
  size_t num_experts() const;     // (layer, expert) pairs held
  size_t resident_bytes() const;  // what it keeps in memory

 private:
  ExpertSlice();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Every (layer, expert) of the model, layer-major.
std::vector<LayerExpert> AllExperts(const ModelConfig& config);

}  // namespace sheaf
