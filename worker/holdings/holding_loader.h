#pragma once
// HoldingLoader: carries out "hold exactly this" while others compute. Some threads of low priority
// (its lanes) take from one HoldingPlan what is to be done next, one expert each; what they load
// goes to the store, what changes is announced.
//
//   Want, Reload   what to hold; a later Want replaces an earlier one between two experts
//   Seen           every live link has seen that announcement
//
// Threads    any. Events come from a lane, one at a time and in order, with the loader's lock held:
//            they must not block, nor call the loader.
// Ownership  borrows engine, store and events; they outlive it.
// Errors     of one expert go to OnHoldFailed; the others go on.

#include <cstdint>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "base/clock.h"
#include "base/ids.h"
#include "exchange/wire/holdings.h"
#include "worker/engine/expert_engine.h"
#include "worker/holdings/expert_store.h"
#include "worker/holdings/holding_plan.h"

namespace sheaf {

// Since the worker started, where nothing else is said.
struct HoldingFacts {
  uint64_t hold_number = 0;    // of the last Want
  uint64_t left_bytes = 0;     // still to be read for it
  uint64_t loaded_bytes = 0;   // read from the checkpoint
  size_t resident_bytes = 0;   // now
  size_t num_held = 0;         // now
  uint64_t num_loaded = 0;
  uint64_t num_dropped = 0;
  uint64_t num_failed = 0;
  bool quiet = true;           // nothing is being loaded, waited for or dropped
};

class HoldingEvents {
 public:
  virtual ~HoldingEvents() = default;
  virtual void OnHoldings(const Holdings& holdings) = 0;
  virtual void OnHoldFailed(uint64_t hold_number, const LayerExpert& pair,
                            const absl::Status& why) = 0;
  // After each expert that came, went or failed, and when all is done.
  virtual void OnHoldingFacts(const HoldingFacts& facts) = 0;
};

// Whether loading again later can end otherwise.
bool MayBeTransient(const absl::Status& status);

class HoldingLoader {
 public:
  // options.memory_bytes, expert_bytes and expert_file_bytes are the engine's.
  HoldingLoader(HoldingPlanOptions options, ExpertEngine& engine, ExpertStore& store,
                HoldingEvents& events);
  ~HoldingLoader();  // Stop

  // Waits for the experts that are being loaded; no event comes afterwards.
  void Stop() ABSL_LOCKS_EXCLUDED(mutex_);

  void Want(HoldRequest request) ABSL_LOCKS_EXCLUDED(mutex_);
  void Reload(const LayerExpert& pair) ABSL_LOCKS_EXCLUDED(mutex_);
  void Seen(uint64_t number) ABSL_LOCKS_EXCLUDED(mutex_);

  HoldingFacts facts() const ABSL_LOCKS_EXCLUDED(mutex_);
  Holdings announced() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void RunLane(int lane) ABSL_LOCKS_EXCLUDED(mutex_);
  void Wait(TimePoint until) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void LoadOne(const LayerExpert& pair, int lane) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void LetGo(HeldExpertPtr expert) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FreeWhatNobodyReads() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  HoldingFacts Facts() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TellFacts() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  ExpertEngine& engine_;
  ExpertStore& store_;
  HoldingEvents& events_;
  const uint64_t expert_file_bytes_;
  const size_t ahead_;

  mutable absl::Mutex mutex_;
  absl::CondVar wake_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  HoldingPlan plan_ ABSL_GUARDED_BY(mutex_);
  // Out of the store; jobs may still read them.
  std::vector<HeldExpertPtr> going_ ABSL_GUARDED_BY(mutex_);
  uint64_t loaded_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t num_loaded_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t num_dropped_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t num_failed_ ABSL_GUARDED_BY(mutex_) = 0;
  bool told_quiet_ ABSL_GUARDED_BY(mutex_) = true;
  std::vector<std::thread> lanes_;
};

}  // namespace sheaf
