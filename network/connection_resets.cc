#include "network/connection_resets.h"

#include <algorithm>

namespace sheaf {
namespace {

double After(double left, Duration since) {
  return std::min(
      ConnectionResets::kBurst,
      left + ConnectionResets::kPerSecond * std::chrono::duration<double>(since).count());
}

}  // namespace

void ConnectionResets::OnReset(const std::string& peer) {
  const TimePoint now = clock_.Now();
  Drop drop;
  {
    absl::MutexLock lock(&mutex_);
    if (peers_.size() >= kMostPeers) ForgetOld(now);
    Budget& budget = peers_.try_emplace(peer, Budget{kBurst, now}).first->second;
    budget.left = After(budget.left, now - budget.at) - 1;
    budget.at = now;
    if (budget.left >= 0) return;
    peers_.erase(peer);
    drop = drop_;
  }
  if (drop) drop(peer);
}

void ConnectionResets::ForgetOld(TimePoint now) {
  std::erase_if(peers_, [now](const auto& entry) {
    return After(entry.second.left, now - entry.second.at) >= kBurst;
  });
  if (peers_.size() >= kMostPeers) peers_.clear();  // a flood of peers: all begin anew
}

}  // namespace sheaf
