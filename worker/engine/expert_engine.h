#pragma once
// ExpertEngine: where a worker's experts live and what computes them: the host's memory and cores
// (cpu_engine.h), or a device's (worker/device/). cli/ chooses one; nothing else in worker/ knows
// which.
//
//   Load         one expert of the checkpoint, from the file's own tensors, into the engine's
//                memory
//   drop         letting go of the last HeldExpertPtr gives its memory back; ExpertStore says what
//                is held
//   NewCompute   rows through experts (exchange/expert_compute.h)
//
// Threads    Load: lanes [0, lanes()) at the same time, calls of one never overlap, and not for
//            what is being computed either. NewCompute: once, on the thread that computes. The
//            rest: any.
// Ownership  outlives its experts and its compute.
// Errors     Load: as model/expert_reader.h. Trying again may help against kDataLoss,
//            kResourceExhausted and kUnavailable, and nothing else.
//            An engine that is lost as a whole says so once (WatchForLoss), and fails all calls
//            from then on.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/ids.h"
#include "base/thread_pool.h"
#include "exchange/expert_compute.h"

namespace sheaf {

class ExpertEngine {
 public:
  using OnLost = std::function<void(const absl::Status& why)>;

  virtual ~ExpertEngine() = default;

  virtual absl::StatusOr<HeldExpertPtr> Load(const LayerExpert& pair, int lane) = 0;
  virtual int lanes() const { return 1; }
  // It will be loaded soon.
  virtual void WillNeed(const LayerExpert& /*pair*/) {}
  // Of one expert, all alike or the largest: in the engine's memory, and in the files.
  virtual size_t expert_bytes() const = 0;
  virtual uint64_t expert_file_bytes() const = 0;
  // All that may be used for experts; 0 = no bound.
  virtual uint64_t memory_bytes() const = 0;
  // Rows of 8 bits (--activation-bits), beside those of 16.
  virtual bool takes_8_bits() const { return true; }

  virtual std::unique_ptr<ExpertCompute> NewCompute(ThreadPool& pool) = 0;

  // Before anything is loaded. The callback comes from any thread, once, at once if it is lost
  // already, and must not block; an empty one ends the watch and waits for one that runs.
  virtual void WatchForLoss(OnLost /*on_lost*/) {}
};

}  // namespace sheaf
