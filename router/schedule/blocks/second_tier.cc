#include "router/schedule/blocks/second_tier.h"

namespace sheaf {

std::span<const std::span<uint8_t>> SecondTier::PiecesOf(int32_t block) {
  pieces_.clear();
  for (int plane = 0; plane < cache_.num_planes(); ++plane) {
    pieces_.push_back(cache_.block(plane, block));
  }
  return pieces_;
}

void SecondTier::Keep(std::span<const KvBlockAllocator::Evicted> evicted) {
  for (const KvBlockAllocator::Evicted& each : evicted) {
    if (!store_.Has(each.name)) {
      if (!HasTime()) {
        ++figures_.lost;
        continue;
      }
      store_.Put(each.name, PiecesOf(each.block));
    }
    ++figures_.kept;
  }
}

bool SecondTier::Load(const BlockHash& name, int32_t block) {
  if (!store_.Get(name, PiecesOf(block))) return false;
  ++figures_.loaded;
  return true;
}

SecondTier::Figures SecondTier::figures() const {
  Figures figures = figures_;
  figures.held = store_.size();
  figures.failed = store_.num_failed();
  return figures;
}

}  // namespace sheaf
