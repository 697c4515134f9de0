// What people are told of a pool, and what operators ask of it.

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "coordinator/pool_state.h"

namespace sheaf {
namespace {

int64_t Milliseconds(Duration time) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(time).count();
}

}  // namespace

absl::Status PoolState::Drain(WorkerId worker, TimePoint now) {
  const auto found = roster_.find(worker);
  if (found == roster_.end()) {
    return absl::NotFoundError(absl::StrFormat("worker %d is not in the pool", worker.value()));
  }
  if (found->second.draining) return absl::OkStatus();
  found->second.draining = true;
  Note(absl::StrFormat("worker %d is drained by an operator", worker.value()));
  PlanSoon(absl::StrFormat("worker %d is drained", worker.value()), now);
  return absl::OkStatus();
}

absl::Status PoolState::Undrain(WorkerId worker, TimePoint now) {
  const auto found = roster_.find(worker);
  if (found == roster_.end()) {
    return absl::NotFoundError(absl::StrFormat("worker %d is not in the pool", worker.value()));
  }
  if (!found->second.draining) return absl::OkStatus();
  found->second.draining = false;
  Note(absl::StrFormat("worker %d takes experts again", worker.value()));
  PlanSoon(absl::StrFormat("worker %d is undrained", worker.value()), now);
  return absl::OkStatus();
}

absl::Status PoolState::SetReplicas(double replicas, TimePoint now) {
  if (!(replicas >= 1) || !(replicas <= 64)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("replicas: wanted 1 to 64, got %g", replicas));
  }
  if (replicas == replicas_) return absl::OkStatus();
  replicas_ = replicas;
  Note(absl::StrFormat("%g holders of an expert are wanted", replicas));
  PlanSoon(absl::StrFormat("%g replicas", replicas), now);
  return absl::OkStatus();
}

int64_t PoolState::Rebalance(TimePoint now) {
  if (gathering_) return 0;
  plan_why_ = "asked by an operator";
  return PlanNow(true, now);
}

std::vector<int64_t> PoolState::Coverage() const {
  std::vector<int64_t> coverage(4, 0);
  for (const int holders : planner_.Holders(roster_)) {
    ++coverage[static_cast<size_t>(std::min(holders, 3))];
  }
  return coverage;
}

uint64_t PoolState::MovingBytes() const {
  uint64_t bytes = 0;
  for (const auto& [id, member] : roster_) {
    bytes += static_cast<uint64_t>(Minus(member.target, member.held).count()) *
             member.facts.expert_bytes;
  }
  return bytes;
}

v1::WorkerStatus::State PoolState::StateOf(const Member& member) const {
  if (member.quarantine.inside()) return v1::WorkerStatus::QUARANTINED;
  if (member.leaving || member.draining) return v1::WorkerStatus::DRAINING;
  if (member.spare) return v1::WorkerStatus::SPARE;
  const bool holds_all = Minus(member.target, member.held).empty();
  return holds_all && !gathering_ ? v1::WorkerStatus::READY : v1::WorkerStatus::LOADING;
}

std::string PoolState::Text() const {
  if (roster_.empty()) return "no expert worker has joined";
  if (gathering_) {
    return options_.expected_workers > 0
               ? absl::StrFormat("waiting for expert workers: %d of %d have joined", roster_.size(),
                                 options_.expected_workers)
               : absl::StrFormat("waiting for expert workers: %d have joined", roster_.size());
  }
  const int64_t orphans = Coverage()[0];
  if (orphans == 0) return absl::StrFormat("every expert has a holder, %d workers", roster_.size());
  std::string text = absl::StrFormat("%d of %d experts have no holder", orphans, grid_.size());
  if (const uint64_t moving = MovingBytes(); moving > 0) {
    absl::StrAppend(
        &text, absl::StrFormat("; %.1f MB are being loaded", static_cast<double>(moving) / 1e6));
  }
  if (unplaced_ > 0) {
    absl::StrAppend(&text, absl::StrFormat("; %d have no worker with room for them", unplaced_));
  }
  for (const auto& [id, share] : lost_shares_) {
    absl::StrAppend(&text, "; worker ", id.value(), " was lost");
  }
  for (const auto& [id, member] : roster_) {
    if (member.refused.empty()) continue;
    absl::StrAppend(&text, "; worker ", id.value(), " cannot load: ", member.refused_reason);
    break;
  }
  return text;
}

v1::PoolStatus PoolState::Status(TimePoint now) const {
  v1::PoolStatus status;
  const std::vector<int64_t> coverage = Coverage();
  status.set_complete(coverage[0] == 0);
  status.set_text(Text());
  status.set_replicas(replicas_);
  status.set_routers(static_cast<int32_t>(routers_.size()));
  status.set_moving_bytes(MovingBytes());
  ToProto(options_.model, *status.mutable_model());
  for (const int64_t experts : coverage) status.add_coverage(experts);

  const std::span<const double> load = load_.pairs();
  const double total = load_.total();
  std::vector<int> holders = planner_.Holders(roster_);
  for (const auto& [id, member] : roster_) {
    v1::WorkerStatus& worker = *status.add_workers();
    worker.set_worker_id(id.value());
    worker.set_state(StateOf(member));
    worker.set_instance(member.facts.instance.value());
    worker.set_pid(member.facts.pid);
    worker.set_host(member.facts.host);
    worker.set_metrics_address(member.facts.metrics_address);
    for (const std::string& address : member.facts.addresses) worker.add_addresses(address);
    worker.set_held_experts(member.held.count());
    worker.set_wanted_experts(member.target.count());
    worker.set_resident_bytes(member.beat.resident_bytes());
    worker.set_memory_bytes(member.facts.memory_bytes);
    worker.set_hold_left_bytes(member.beat.hold_left_bytes());
    double share = 0;
    if (total > 0) {
      member.held.ForEach([&](size_t i) {
        if (holders[i] > 0) share += load[i] / holders[i];
      });
      worker.set_load_share(std::min(1.0, share / total));
    }
    int live = 0;
    for (const auto& [session, link] : member.links) live += link.live;
    worker.set_live_links(live);
    worker.set_silent_ms(std::max<int64_t>(0, Milliseconds(now - member.last_message)));
    if (member.quarantine.inside()) {
      worker.set_reason(member.quarantine.reason());
    } else if (member.leaving) {
      worker.set_reason("it leaves");
    } else if (!member.refused.empty()) {
      worker.set_reason(absl::StrFormat("%d experts cannot be loaded: %s", member.refused.count(),
                                        member.refused_reason));
    } else {
      for (const auto& [session, link] : member.links) {
        if (!link.live && !link.reason.empty())
          worker.set_reason("a router's link: " + link.reason);
      }
    }
  }
  for (const LostWorker& lost : lost_) {
    v1::LostWorkerStatus& one = *status.add_lost();
    one.set_worker_id(lost.worker.value());
    one.set_instance(lost.instance.value());
    one.set_host(lost.host);
    one.set_pid(lost.pid);
    one.set_reason(lost.reason);
    one.set_lost_ms_ago(Milliseconds(now - lost.at));
  }
  return status;
}

PoolFigures PoolState::Figures() const {
  PoolFigures figures;
  for (const auto& [id, member] : roster_) ++figures.workers[StateOf(member)];
  figures.coverage = Coverage();
  figures.routers = static_cast<int>(routers_.size());
  figures.moving_bytes = MovingBytes();
  figures.wanted_holders = replicas_;
  const std::vector<int> holders = planner_.Holders(roster_);
  for (size_t i = 0; i < holders.size(); ++i) {
    const auto [at, first] =
        figures.fewest_holders.try_emplace(grid_.LayerOf(i), holders[i]);
    if (!first) at->second = std::min(at->second, holders[i]);
  }
  return figures;
}

}  // namespace sheaf
