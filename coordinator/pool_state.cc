#include "coordinator/pool_state.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/one_line.h"
#include "base/status.h"

namespace sheaf {
namespace {

constexpr size_t kMaxReasonBytes = 255;
constexpr size_t kLostRemembered = 32;
constexpr size_t kIdsRemembered = 1024;

std::string Bounded(const std::string& text) { return OneLine(text.substr(0, kMaxReasonBytes)); }

std::string NameOf(const WorkerFacts& facts) {
  return absl::StrFormat("pid %d on %s", facts.pid, facts.host.empty() ? "?" : facts.host);
}

}  // namespace

const char* NameOf(LossCause cause) {
  switch (cause) {
    case LossCause::kLease:
      return "lease";
    case LossCause::kSessionEnded:
      return "session_ended";
    case LossCause::kProtocol:
      return "protocol";
    case LossCause::kLeft:
      return "left";
  }
  return "unknown";
}

PoolState::PoolState(PoolStateOptions options)
    : options_(std::move(options)),
      grid_(ExpertGrid::Of(options_.model)),
      planner_(grid_, options_.planner),
      replicas_(options_.replicas),
      awake_(options_.longest_tick),
      load_(grid_.size(), options_.load_half_life) {}

void PoolState::WorkerOpened(SessionId session, TimePoint /*now*/) {
  strangers_[session] = {false, awake_.elapsed()};
}
void PoolState::RouterOpened(SessionId session, TimePoint /*now*/) {
  strangers_[session] = {true, awake_.elapsed()};
}

Member* PoolState::MemberOf(SessionId session) {
  const auto found = session_of_.find(session);
  return found == session_of_.end() ? nullptr : &roster_.at(found->second);
}

void PoolState::Refuse(SessionId session, const char* who, const absl::Status& status) {
  ++counters_.refused_hellos;
  Do(LogNote{.warning = true,
             .text = absl::StrFormat("a %s may not join: %s", who, std::string(status.message())),
             .of_stranger = true});
  Do(EndSession{session, status});
}

void PoolState::NoteRefusedOperator(const absl::Status& why) {
  ++counters_.refused_hellos;
  Do(LogNote{.warning = true,
             .text = absl::StrFormat("an operator is refused: %s", std::string(why.message())),
             .of_stranger = true});
}

void PoolState::OnWorkerMessage(SessionId session, const v1::FromWorker& message,
                                TimePoint received, TimePoint now) {
  Member* member = MemberOf(session);
  if (member == nullptr) {
    // What a session that was ended still says is void.
    if (strangers_.erase(session) > 0) JoinWorker(session, message, received, now);
    return;
  }
  member->heard = awake_.elapsed();  // any message is a sign of life
  member->last_message = std::max(member->last_message, received);
  if (const absl::Status status = Understand(*member, message, now); !status.ok()) {
    Lose(member->id, LossCause::kProtocol, std::string(status.message()), now);
  }
}

void PoolState::Closed(SessionId session, TimePoint now) {
  strangers_.erase(session);
  if (routers_.erase(session) > 0) {
    for (auto& [id, member] : roster_) member.links.erase(session);
    Note("a router has gone");
  }
  if (const Member* member = MemberOf(session)) {
    if (member->leaving) {
      Lose(member->id, LossCause::kLeft, "it left", now);
    } else {
      Lose(member->id, LossCause::kSessionEnded, "its session ended", now);
    }
  }
}

absl::StatusOr<WorkerId> PoolState::ChooseId(const WorkerFacts& facts) const {
  const auto free = [&](WorkerId id) { return roster_.find(id) == roster_.end(); };
  for (auto at = ids_.rbegin(); at != ids_.rend(); ++at) {
    if (at->first == facts.instance && free(at->second)) return at->second;
  }
  if (facts.preferred_id >= 0 && free(WorkerId(facts.preferred_id))) {
    return WorkerId(facts.preferred_id);
  }
  if (!facts.spare) {
    for (const auto& [id, share] : lost_shares_) {
      if (free(id)) return id;
    }
  }
  for (int id = 0; id < kMaxWorkers; ++id) {
    if (free(WorkerId(id)) && lost_shares_.count(WorkerId(id)) == 0) return WorkerId(id);
  }
  return absl::ResourceExhaustedError(absl::StrFormat("all %d worker ids are taken", kMaxWorkers));
}

void PoolState::JoinWorker(SessionId session, const v1::FromWorker& message, TimePoint received,
                           TimePoint now) {
  if (!message.has_hello()) {
    return Refuse(session, "worker",
                  absl::InvalidArgumentError("the first message of a session must be hello"));
  }
  absl::StatusOr<WorkerFacts> facts =
      CheckWorkerHello(message.hello(), options_.model, options_.token);
  if (!facts.ok()) return Refuse(session, "worker", facts.status());

  // The same process on a new stream: the old one has ended, whether it knows or not.
  auto same = std::find_if(roster_.begin(), roster_.end(), [&](const auto& entry) {
    return entry.second.facts.instance == facts->instance;
  });
  if (same == roster_.end()) {
    const absl::StatusOr<WorkerId> id = ChooseId(*facts);
    if (!id.ok()) return Refuse(session, "worker", id.status());
    same = roster_.emplace(*id, Member(options_.quarantine)).first;
    Member& fresh = same->second;
    fresh.id = *id;
    fresh.spare = facts->spare;
    fresh.target = ExpertSet(grid_.size());
    if (const auto share = lost_shares_.find(*id); share != lost_shares_.end()) {
      if (!fresh.spare) {
        fresh.target = std::move(share->second.target);
        lost_shares_.erase(share);
      }
    }
    const auto before = std::find_if(lost_.rbegin(), lost_.rend(), [&](const LostWorker& lost) {
      return lost.instance == facts->instance;
    });
    if (before != lost_.rend() && before->cause == LossCause::kLease) {
      ++counters_.false_evictions;
      Warn(absl::StrFormat("worker %d was held for lost and is back: it was alive", id->value()));
    }
    joined_.push_back(*id);
  } else {
    Do(EndSession{same->second.session,
                  absl::AbortedError("replaced by a newer stream of its process")});
    session_of_.erase(same->second.session);
  }
  Member& member = same->second;
  member.session = session;
  member.held = facts->held;
  member.refused = ExpertSet(grid_.size());
  member.urgent_sent = ExpertSet(grid_.size());
  member.sent.clear();
  member.hold_number = 0;
  // Of what it holds it may still drop something that an earlier session asked for.
  member.settled = facts->held.empty();
  member.leaving = false;
  member.heard = awake_.elapsed();
  member.last_message = received;
  member.beat.Clear();
  member.facts = *std::move(facts);
  session_of_[session] = member.id;
  view_changed_ = true;

  v1::ToWorker welcome;
  welcome.mutable_welcome()->set_worker_id(member.id.value());
  welcome.mutable_welcome()->set_lease_ms(
      std::chrono::duration_cast<std::chrono::milliseconds>(options_.lease).count());
  Do(SendToWorker{session, std::move(welcome)});
  if (gathering_) {
    if (roster_.size() == 1) first_join_ = now;
  } else {
    PlanSoon(absl::StrFormat("worker %d joined", member.id.value()), now);
  }
}

absl::Status PoolState::Understand(Member& member, const v1::FromWorker& message, TimePoint now) {
  switch (message.message_case()) {
    case v1::FromWorker::kBeat: {
      if (message.beat().sequence() <= member.beat.sequence()) {
        return absl::InvalidArgumentError(
            absl::StrFormat("beat: wanted a sequence above %d, got %d", member.beat.sequence(),
                            message.beat().sequence()));
      }
      const uint64_t loaded = message.beat().loaded_bytes();
      if (member.beat.sequence() > 0 && loaded > member.beat.loaded_bytes()) {
        counters_.moved_bytes += loaded - member.beat.loaded_bytes();
      }
      // Of the beat before: what it dropped for an older Hold it has announced by now.
      const uint64_t acted_on = member.beat.hold_number();
      member.beat = message.beat();
      if (std::any_of(member.sent.begin(), member.sent.end(),
                      [&](const SentHold& hold) { return hold.number == acted_on; })) {
        member.settled = true;
        std::erase_if(member.sent, [&](const SentHold& hold) { return hold.number < acted_on; });
      }
      // A number of an earlier session must not look like an answer in this one.
      member.hold_number = std::max(member.hold_number, member.beat.hold_number());
      v1::ToWorker seen;
      seen.mutable_beat_seen()->set_sequence(message.beat().sequence());
      Do(SendToWorker{member.session, std::move(seen)});
      return absl::OkStatus();
    }
    case v1::FromWorker::kHoldings: {
      SHEAF_ASSIGN_OR_RETURN(AnnouncedSet set, ReadHoldings(message.holdings().holdings(), grid_));
      if (set.number < member.facts.holdings_number) {
        return absl::InvalidArgumentError(
            absl::StrFormat("holdings: wanted a number of at least %d, got %d",
                            member.facts.holdings_number, set.number));
      }
      member.facts.holdings_number = set.number;
      member.held = std::move(set.experts);
      return absl::OkStatus();
    }
    case v1::FromWorker::kHoldFailed:
      return OnHoldFailed(member, message.hold_failed(), now);
    case v1::FromWorker::kLeaving:
      OnLeaving(member, message.leaving().reason(), now);
      return absl::OkStatus();
    case v1::FromWorker::kHello:
      return absl::InvalidArgumentError("hello twice");
    case v1::FromWorker::MESSAGE_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("an empty message");
}

absl::Status PoolState::OnHoldFailed(Member& member, const v1::HoldFailed& failed, TimePoint now) {
  if (!grid_.Inside(failed.layer(), failed.expert())) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "hold_failed: layer %d expert %d is not in the model", failed.layer(), failed.expert()));
  }
  ++counters_.refused_experts;
  // One line for all that a bad disk refuses.
  if (member.refused.empty()) {
    Warn(absl::StrFormat("worker %d cannot load layer %d expert %d: %s", member.id.value(),
                         failed.layer(), failed.expert(), Bounded(failed.reason())));
  }
  actions_.push_back(RefusedExpert{member.id,
                                   {LayerId(failed.layer()), ExpertId(failed.expert())},
                                   Bounded(failed.reason()),
                                   failed.permanent()});
  member.refused_reason = Bounded(failed.reason());
  member.refused.Add(grid_.Index(failed.layer(), failed.expert()));
  member.refused_until = failed.permanent() ? TimePoint::max() : now + options_.refused_retry;
  PlanSoon(absl::StrFormat("worker %d cannot load an expert", member.id.value()), now);
  return absl::OkStatus();
}

void PoolState::OnLeaving(Member& member, const std::string& reason, TimePoint now) {
  if (member.leaving) return;
  member.leaving = true;
  member.leaving_since = now;
  Note(absl::StrFormat("worker %d leaves: %s", member.id.value(), Bounded(reason)));
  TakeOverFrom(member);
}

void PoolState::TakeOverFrom(Member& leaving) {
  // Only what nobody else holds must move now; for the rest its replacement may come.
  std::vector<WorkerId> others;
  for (const auto& [id, other] : roster_) others.push_back(id);
  const std::vector<size_t> only = planner_.OnlyHeldBy(roster_, leaving.id);
  unplaced_ = planner_.Adopt(roster_, only, others);
  for (const size_t expert : only) leaving.target.Remove(expert);
}

void PoolState::Lose(WorkerId worker, LossCause cause, const std::string& reason, TimePoint now) {
  const auto found = roster_.find(worker);
  if (found == roster_.end()) return;
  Member& member = found->second;
  const LostWorker lost{
      worker, member.facts.instance, member.facts.pid, member.facts.host, reason, cause, now};
  ++counters_.lost[cause];
  const std::string text =
      absl::StrFormat("worker %d (%s) %s", worker.value(), NameOf(member.facts),
                      cause == LossCause::kLeft ? "left" : absl::StrCat("lost: ", reason));
  if (cause == LossCause::kLeft) {
    Note(text);
  } else {
    Warn(text);
  }
  Do(lost);
  lost_.push_back(lost);
  if (lost_.size() > kLostRemembered) lost_.pop_front();
  std::erase_if(ids_, [&](const auto& known) { return known.first == lost.instance; });
  ids_.emplace_back(lost.instance, worker);
  if (ids_.size() > kIdsRemembered) ids_.pop_front();
  Do(EndSession{member.session, cause == LossCause::kLeft ? absl::OkStatus()
                                : cause == LossCause::kProtocol
                                    ? absl::InvalidArgumentError(reason)
                                    : absl::AbortedError(absl::StrCat("held for lost: ", reason))});
  session_of_.erase(member.session);
  std::erase(joined_, worker);

  LostShare share{member.target, member.facts.memory_bytes, now + options_.adopt_after};
  const bool had_share = member.takes() || member.leaving;
  roster_.erase(found);
  view_changed_ = true;
  // It may have been the one that others waited for to leave.
  for (auto& [id, other] : roster_) {
    if (other.leaving && !other.dismissed) TakeOverFrom(other);
  }
  if (gathering_ || !had_share || share.target.empty()) return;
  // A spare steps in at once.
  for (auto& [id, other] : roster_) {
    if (!other.spare || !other.counts()) continue;
    other.spare = false;
    other.target = std::move(share.target);
    PlanSoon(absl::StrFormat("worker %d takes the place of worker %d", id.value(), worker.value()),
             now);
    return;
  }
  lost_shares_[worker] = std::move(share);
}

}  // namespace sheaf
