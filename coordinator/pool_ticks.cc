// What time brings: leases, plans that are due, the next thing for workers to hold, views for
// routers.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "coordinator/pool_state.h"

namespace sheaf {
namespace {

// Joins and losses that come together are one plan.
constexpr Duration kPlanDelay = std::chrono::milliseconds(100);
// Text alone is sent no more often.
constexpr Duration kTextEvery = std::chrono::seconds(1);

double Megabytes(uint64_t bytes) { return static_cast<double>(bytes) / 1e6; }

// "worker 3", "workers 0-15, 17".
std::string Listed(std::vector<WorkerId> ids) {
  std::sort(ids.begin(), ids.end());
  std::string text = ids.size() == 1 ? "worker " : "workers ";
  for (size_t i = 0; i < ids.size();) {
    size_t end = i + 1;
    while (end < ids.size() && ids[end].value() == ids[end - 1].value() + 1) ++end;
    absl::StrAppend(&text, i == 0 ? "" : ", ", ids[i].value());
    if (end - i > 1) absl::StrAppend(&text, "-", ids[end - 1].value());
    i = end;
  }
  return text;
}

}  // namespace

void PoolState::Tick(TimePoint now, bool unread) {
  awake_.Tick(now, unread);
  if (!unread) {
    ExpireLeases(now);
    ExpireStrangers();
  }
  if (!joined_.empty()) {
    const std::string who = Listed(std::exchange(joined_, {}));
    Note(gathering_ && options_.expected_workers > 0
             ? absl::StrFormat("%s joined: %d of %d are here", who, roster_.size(),
                               options_.expected_workers)
             : absl::StrFormat("%s joined: %d are here", who, roster_.size()));
  }
  EndGathering(now);
  if (!gathering_) {
    AdoptLostShares(now);
    ReleaseAndRetry(now);
    if (plan_soon_ && now >= plan_at_) PlanNow(false, now);
    SendHolds(now);
    NoteProgress();
  }
  DismissLeaving(now);
  SendViews(now);
}

void PoolState::ExpireLeases(TimePoint now) {
  std::vector<WorkerId> silent;
  for (const auto& [id, member] : roster_) {
    if (awake_.elapsed() - member.heard > options_.lease) silent.push_back(id);
  }
  const auto lease = std::chrono::duration_cast<std::chrono::milliseconds>(options_.lease);
  for (const WorkerId id : silent) {
    Lose(id, LossCause::kLease, absl::StrFormat("no sign of life for %d ms", lease.count()), now);
  }
}

void PoolState::ExpireStrangers() {
  for (auto at = strangers_.begin(); at != strangers_.end();) {
    if (awake_.elapsed() - at->second.since > options_.hello_timeout) {
      Do(EndSession{at->first, absl::InvalidArgumentError("no hello in time")});
      at = strangers_.erase(at);
    } else {
      ++at;
    }
  }
}

void PoolState::EndGathering(TimePoint now) {
  if (!gathering_ || roster_.empty()) return;
  const bool all = options_.expected_workers > 0 &&
                   roster_.size() >= static_cast<size_t>(options_.expected_workers);
  if (!all && now - first_join_ < options_.join_patience) return;
  gathering_ = false;
  plan_why_ = absl::StrFormat("%d workers are here", roster_.size());
  PlanNow(false, now);
}

void PoolState::PlanSoon(std::string why, TimePoint now) {
  if (gathering_) return;
  if (!plan_soon_) plan_at_ = now + kPlanDelay;
  plan_soon_ = true;
  plan_why_ = std::move(why);
}

int64_t PoolState::PlanNow(bool exact, TimePoint /*now*/) {
  plan_soon_ = false;
  // Once anything was planned the draining and leaving have nothing to load; what only they hold
  // has places with others.
  std::map<WorkerId, ExpertSet> leaving;
  for (auto& [id, member] : roster_) {
    if (member.leaving) leaving[id] = member.target;
  }
  const PlacementPlan plan =
      planner_.Replan(roster_, lost_shares_, replicas_, load_.pairs(), exact);
  for (auto& [id, target] : leaving) {
    // Left to its replacement, if others are not to have it by this plan.
    for (const auto& [other, member] : roster_) {
      if (other != id) target.RemoveAll(member.target);
    }
    roster_.at(id).target = std::move(target);
  }
  ++counters_.plans;
  counters_.moves += plan.moves;
  unplaced_ = plan.unplaced;
  if (plan.moves > 0 || plan.unplaced > 0) {
    uint64_t expert_bytes = 1;
    for (const auto& [id, member] : roster_) {
      expert_bytes = std::max(expert_bytes, member.facts.expert_bytes);
    }
    std::string text =
        absl::StrFormat("plan (%s): %d experts to load, %.1f MB", plan_why_, plan.moves,
                        Megabytes(static_cast<uint64_t>(plan.moves) * expert_bytes));
    if (plan.missing_copies > 0) {
      absl::StrAppend(&text, "; no memory for ", plan.missing_copies, " further copies");
    }
    Note(std::move(text));
  }
  if (plan.unplaced > 0) {
    Warn(absl::StrFormat("%d of %d experts find no worker: more memory or workers are needed",
                         plan.unplaced, grid_.size()));
  }
  moving_ = moving_ || plan.moves > 0;
  return plan.moves;
}

void PoolState::AdoptLostShares(TimePoint now) {
  std::vector<WorkerId> due;
  for (const auto& [id, share] : lost_shares_) {
    if (now >= share.adopt_at) due.push_back(id);
  }
  for (const WorkerId id : due) {
    lost_shares_.erase(id);
    PlanSoon(absl::StrFormat("worker %d has not come back", id.value()), now);
    plan_at_ = now;
  }
}

void PoolState::ReleaseAndRetry(TimePoint now) {
  for (auto& [id, member] : roster_) {
    if (member.quarantine.Release(now)) {
      Note(absl::StrFormat("worker %d is out of quarantine", id.value()));
      view_changed_ = true;
      PlanSoon(absl::StrFormat("worker %d is back", id.value()), now);
    }
    if (member.refused_until != TimePoint::max() && now >= member.refused_until &&
        !member.refused.empty()) {
      member.refused = ExpertSet(grid_.size());
      PlanSoon(absl::StrFormat("worker %d may try again", id.value()), now);
    }
    // Reached by a router, or by none of those that reach others.
    bool live = member.links.empty();
    bool tried = false;
    std::string reason;
    for (const auto& [session, link] : member.links) {
      live = live || link.live;
      const bool reaches_others =
          std::any_of(roster_.begin(), roster_.end(), [&](const auto& entry) {
            const auto seen = entry.second.links.find(session);
            return entry.first != id && seen != entry.second.links.end() && seen->second.live;
          });
      if (link.live || !reaches_others) continue;
      tried = true;
      reason = link.reason;
    }
    if (member.quarantine.Reached(live || !tried, now)) {
      TakeOut(member, absl::StrFormat("no router reaches it: %s", reason), false, now);
    }
  }
}

void PoolState::DismissLeaving(TimePoint now) {
  for (auto& [id, member] : roster_) {
    if (!member.leaving || member.dismissed) continue;
    const std::vector<size_t> only = planner_.OnlyHeldBy(roster_, id);
    bool taken_over = true;  // by somebody, in time
    if (!only.empty()) {
      ExpertSet planned(grid_.size());
      for (const auto& [other, holder] : roster_) {
        if (other != id && holder.takes()) planned.AddAll(holder.target);
      }
      taken_over = std::any_of(only.begin(), only.end(), [&](size_t i) { return planned.Has(i); });
    }
    if (!only.empty() && (taken_over || now - member.leaving_since < options_.leave_bound)) {
      continue;
    }
    member.dismissed = true;
    if (!only.empty()) {
      Warn(absl::StrFormat("worker %d leaves with %d experts that nobody else can take", id.value(),
                           only.size()));
    }
    v1::ToWorker dismissed;
    dismissed.mutable_dismissed()->set_reason("others hold what it held");
    Do(SendToWorker{member.session, std::move(dismissed)});
  }
}

void PoolState::SendHolds(TimePoint now) {
  for (auto& [session, hold] : planner_.NextHolds(roster_, WaitedFor(now), !was_complete_, now)) {
    v1::ToWorker message;
    *message.mutable_hold() = std::move(hold);
    Do(SendToWorker{session, std::move(message)});
  }
}

void PoolState::SendViews(TimePoint now) {
  std::string text = Text();
  const bool text_due = text != view_text_ && now - text_sent_ >= kTextEvery;
  if (!view_changed_ && !text_due) return;
  view_changed_ = false;
  view_text_ = std::move(text);
  text_sent_ = now;
  v1::ToRouter message;
  v1::PoolView& view = *message.mutable_view();
  view.set_number(++view_number_);
  view.set_text(view_text_);
  for (const auto& [id, member] : roster_) {
    if (member.quarantine.inside()) continue;
    v1::PoolMember& worker = *view.add_workers();
    worker.set_worker_id(id.value());
    worker.set_instance(member.facts.instance.value());
    for (const std::string& address : member.facts.addresses) worker.add_addresses(address);
    worker.set_host(member.facts.host);
    worker.set_pid(member.facts.pid);
  }
  for (const auto& [session, router] : routers_) {
    // Its own keys: a router can speak for no other.
    for (v1::PoolMember& worker : *view.mutable_workers()) {
      const Member& member = roster_.at(WorkerId(worker.worker_id()));
      const LinkKey key =
          LinkKeyFor(member.facts.secret, member.facts.instance, router.facts.instance);
      worker.set_link_key(key.bytes.data(), key.bytes.size());
    }
    Do(SendToRouter{session, message});
  }
}

void PoolState::NoteProgress() {
  const std::vector<int64_t> coverage = Coverage();
  const bool complete = coverage[0] == 0;
  if (complete != complete_) {
    complete_ = complete;
    if (complete) {
      Note(absl::StrFormat("every expert has a holder: %d experts on %d workers", grid_.size(),
                           roster_.size()));
    } else {
      Warn(absl::StrFormat("%d of %d experts have no holder", coverage[0], grid_.size()));
    }
  }
  was_complete_ = was_complete_ || complete;
  const bool moving = std::any_of(roster_.begin(), roster_.end(), [](const auto& entry) {
    return !Minus(entry.second.target, entry.second.held).empty();
  });
  if (moving_ && !moving && !roster_.empty()) Note("every worker holds what it should");
  moving_ = moving;
}

}  // namespace sheaf
