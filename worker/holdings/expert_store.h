#pragma once
// ExpertStore: the experts that a worker holds, in the memory of its engine. They come and go while
// others compute: whoever found one keeps it alive.
//
// Threads    any. Cost: Find takes a reader's lock and copies a pointer.
// Errors     a layer or expert outside the model is not held.

#include <cstddef>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "base/ids.h"
#include "exchange/expert_compute.h"

namespace sheaf {

class ExpertStore final : public HeldExperts {
 public:
  // new_compute: of the engine whose experts they are.
  ExpertStore(int num_layers, int num_experts, NewExpertCompute new_compute);

  HeldExpertPtr Find(LayerId layer, ExpertId expert) const override ABSL_LOCKS_EXCLUDED(mutex_);
  std::unique_ptr<ExpertCompute> NewCompute(ThreadPool& pool) const override {
    return new_compute_(pool);
  }
  // Holds it from now on; returns what was held in its place.
  HeldExpertPtr Add(const LayerExpert& pair, HeldExpertPtr expert) ABSL_LOCKS_EXCLUDED(mutex_);
  // Returns what was held. Its memory goes back when that and every job's pointer is let go.
  HeldExpertPtr Drop(const LayerExpert& pair) ABSL_LOCKS_EXCLUDED(mutex_);

  size_t num_held() const ABSL_LOCKS_EXCLUDED(mutex_);
  size_t resident_bytes() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  bool Inside(LayerId layer, ExpertId expert) const;
  size_t Index(LayerId layer, ExpertId expert) const;
  HeldExpertPtr Exchange(const LayerExpert& pair, HeldExpertPtr expert) ABSL_LOCKS_EXCLUDED(mutex_);

  const int num_layers_;
  const int num_experts_;
  const NewExpertCompute new_compute_;
  mutable absl::Mutex mutex_;
  std::vector<HeldExpertPtr> experts_ ABSL_GUARDED_BY(mutex_);  // [layers][experts]
  size_t num_held_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t resident_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace sheaf
