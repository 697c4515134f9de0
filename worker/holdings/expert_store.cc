#include "worker/holdings/expert_store.h"

#include <utility>

#include "base/check.h"

namespace sheaf {

ExpertStore::ExpertStore(int num_layers, int num_experts, NewExpertCompute new_compute)
    : num_layers_(num_layers),
      num_experts_(num_experts),
      new_compute_(std::move(new_compute)),
      experts_(static_cast<size_t>(num_layers) * static_cast<size_t>(num_experts)) {}

bool ExpertStore::Inside(LayerId layer, ExpertId expert) const {
  return layer.value() >= 0 && layer.value() < num_layers_ && expert.value() >= 0 &&
         expert.value() < num_experts_;
}

size_t ExpertStore::Index(LayerId layer, ExpertId expert) const {
  return static_cast<size_t>(layer.value()) * static_cast<size_t>(num_experts_) +
         static_cast<size_t>(expert.value());
}

HeldExpertPtr ExpertStore::Find(LayerId layer, ExpertId expert) const {
  if (!Inside(layer, expert)) return nullptr;
  absl::ReaderMutexLock lock(&mutex_);
  return experts_[Index(layer, expert)];
}

HeldExpertPtr ExpertStore::Exchange(const LayerExpert& pair, HeldExpertPtr expert) {
  if (!Inside(pair.layer, pair.expert)) return nullptr;
  absl::MutexLock lock(&mutex_);
  HeldExpertPtr& place = experts_[Index(pair.layer, pair.expert)];
  if (place != nullptr) {
    --num_held_;
    resident_bytes_ -= place->resident_bytes();
  }
  if (expert != nullptr) {
    ++num_held_;
    resident_bytes_ += expert->resident_bytes();
  }
  std::swap(place, expert);
  return expert;
}

HeldExpertPtr ExpertStore::Add(const LayerExpert& pair, HeldExpertPtr expert) {
  SHEAF_CHECK(Inside(pair.layer, pair.expert), "the loader loads experts of the model alone");
  return Exchange(pair, std::move(expert));
}

HeldExpertPtr ExpertStore::Drop(const LayerExpert& pair) { return Exchange(pair, nullptr); }

size_t ExpertStore::num_held() const {
  absl::ReaderMutexLock lock(&mutex_);
  return num_held_;
}

size_t ExpertStore::resident_bytes() const {
  absl::ReaderMutexLock lock(&mutex_);
  return resident_bytes_;
}

}  // namespace sheaf
