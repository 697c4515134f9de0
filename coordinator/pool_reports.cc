// What routers say: who they are, and once a second how the pool looks from where they are.

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/one_line.h"
#include "coordinator/pool_state.h"

namespace sheaf {
namespace {

constexpr int kMaxLinks = 2 * kMaxWorkers;
constexpr int kMaxWrongAnswers = 256;
constexpr size_t kMaxReasonBytes = 255;
// Orphans that a router does not tell again count as found.
constexpr Duration kOrphansFor = std::chrono::seconds(3);

}  // namespace

void PoolState::OnRouterMessage(SessionId session, const v1::FromRouter& message, TimePoint now) {
  const auto found = routers_.find(session);
  if (found == routers_.end()) {
    if (strangers_.erase(session) > 0) JoinRouter(session, message);
    return;
  }
  absl::Status status = absl::InvalidArgumentError("wanted a report");
  if (message.has_report()) status = OnReport(session, found->second, message.report(), now);
  if (status.ok()) return;
  Warn(absl::StrFormat("a router breaks the protocol: %s", std::string(status.message())));
  Do(EndSession{session, status});
  routers_.erase(session);
  for (auto& [id, member] : roster_) member.links.erase(session);
}

void PoolState::JoinRouter(SessionId session, const v1::FromRouter& message) {
  if (!message.has_hello()) {
    return Refuse(session, "router",
                  absl::InvalidArgumentError("the first message of a session must be hello"));
  }
  absl::StatusOr<RouterFacts> facts =
      CheckRouterHello(message.hello(), options_.model, options_.token);
  if (!facts.ok()) return Refuse(session, "router", facts.status());
  // The same process on a new stream.
  for (auto& [other, router] : routers_) {
    if (router.facts.instance != facts->instance) continue;
    Do(EndSession{other, absl::AbortedError("replaced by a newer stream of its process")});
    for (auto& [id, member] : roster_) member.links.erase(other);
    routers_.erase(other);
    break;
  }
  Note(absl::StrFormat("a router joined: pid %d on %s", facts->pid,
                       facts->host.empty() ? "?" : facts->host));
  routers_[session].facts = *std::move(facts);
  view_changed_ = true;
}

absl::Status PoolState::OnReport(SessionId session, RouterMember& router,
                                 const v1::RouterReport& report, TimePoint now) {
  const auto size = static_cast<int>(grid_.size());
  if (report.pairs_size() != 0 && report.pairs_size() != size) {
    return absl::InvalidArgumentError(
        absl::StrFormat("report.pairs: wanted %d or none, got %d", size, report.pairs_size()));
  }
  if (report.links_size() > kMaxLinks || report.orphans_size() > size ||
      report.wrong_answers_size() > kMaxWrongAnswers) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "report: wanted at most %d links, %d orphans, %d wrong answers; got %d, %d, %d", kMaxLinks,
        size, kMaxWrongAnswers, report.links_size(), report.orphans_size(),
        report.wrong_answers_size()));
  }
  ExpertSet orphans(grid_.size());
  for (const v1::ExpertRange& range : report.orphans()) {
    if (range.begin() >= range.end() || !grid_.Inside(range.layer(), range.begin()) ||
        !grid_.Inside(range.layer(), range.end() - 1)) {
      return absl::InvalidArgumentError(
          absl::StrFormat("report.orphans: layer %d, experts %d..%d are not in the model",
                          range.layer(), range.begin(), range.end()));
    }
    for (int e = range.begin(); e < range.end(); ++e) orphans.Add(grid_.Index(range.layer(), e));
  }
  for (const v1::WrongAnswer& wrong : report.wrong_answers()) {
    if (!grid_.Inside(wrong.layer(), wrong.expert())) {
      return absl::InvalidArgumentError(
          absl::StrFormat("report.wrong_answers: layer %d expert %d is not in the model",
                          wrong.layer(), wrong.expert()));
    }
  }
  if (report.pairs_size() == size) load_.Add(report.pairs(), now);
  for (const v1::LinkReport& link : report.links()) OnLinkReport(session, link, now);
  for (const v1::WrongAnswer& wrong : report.wrong_answers()) OnWrongAnswer(wrong, now);
  router.orphans.clear();
  orphans.ForEach([&](size_t i) { router.orphans.push_back(i); });
  router.orphans_at = now;
  if (!router.orphans.empty()) OnOrphans(session, router, now);
  return absl::OkStatus();
}

void PoolState::OnLinkReport(SessionId session, const v1::LinkReport& report, TimePoint now) {
  const auto found = roster_.find(WorkerId(report.worker_id()));
  // A report about the process that had this id before.
  if (found == roster_.end() || found->second.facts.instance != InstanceId(report.instance())) {
    return;
  }
  Member& member = found->second;
  LinkSeen& link = member.links[session];
  link.live = report.live();
  link.reason = OneLine(report.reason().substr(0, kMaxReasonBytes));
  const double seconds = report.seconds_per_unit();
  if (std::isfinite(seconds) && seconds > 0) link.seconds_per_unit = seconds;
  // A router that reaches nobody says nothing about a worker.
  const bool reaches_others = std::any_of(roster_.begin(), roster_.end(), [&](const auto& entry) {
    const auto seen = entry.second.links.find(session);
    return entry.first != member.id && seen != entry.second.links.end() && seen->second.live;
  });
  if (!reaches_others || report.failures() <= 0) return;
  if (member.quarantine.LinkFailed(report.failures(), now)) {
    TakeOut(member, absl::StrFormat("its links keep breaking: %s", link.reason), false, now);
  }
}

void PoolState::OnOrphans(SessionId session, RouterMember& router, TimePoint now) {
  // While workers are still coming back nobody knows who holds what.
  if (gathering_) return;
  const auto reaches = [&](const Member& member) {
    const auto seen = member.links.find(session);
    return seen == member.links.end() || seen->second.live;
  };
  // What somebody that the router reaches holds, or is to load, will be found there.
  ExpertSet covered(grid_.size());
  std::vector<WorkerId> reached;
  for (const auto& [id, member] : roster_) {
    if (!reaches(member) || !member.takes()) continue;
    reached.push_back(id);
    covered.AddAll(member.held);
    covered.AddAll(member.target);
  }
  std::vector<size_t> open;
  for (const size_t i : router.orphans) {
    if (!covered.Has(i)) open.push_back(i);
  }
  if (open.empty() || reached.empty()) return;
  planner_.Adopt(roster_, open, reached);
  // No step begins before every expert has a holder, so the rest is waited for too.
  std::vector<size_t> rest;
  for (size_t i = 0; i < grid_.size(); ++i) {
    if (!covered.Has(i)) rest.push_back(i);
  }
  planner_.Adopt(roster_, rest, reached);
  ExpertSet placed(grid_.size());
  for (const WorkerId id : reached) placed.AddAll(roster_.at(id).target);
  placed.RemoveAll(covered);
  for (auto& [id, share] : lost_shares_) share.target.RemoveAll(placed);
  // What finds no place is in the pool's text; it is told again each second.
  if (placed.empty()) return;
  Note(absl::StrFormat("%d experts that steps wait for go to others", placed.count()));
  SendHolds(now);
}

std::vector<size_t> PoolState::WaitedFor(TimePoint now) const {
  std::vector<size_t> waited;
  ExpertSet seen(grid_.size());
  for (const auto& [session, router] : routers_) {
    if (now - router.orphans_at > kOrphansFor) continue;
    for (const size_t i : router.orphans) {
      if (seen.Has(i)) continue;
      seen.Add(i);
      waited.push_back(i);
    }
  }
  return waited;
}

void PoolState::OnWrongAnswer(const v1::WrongAnswer& wrong, TimePoint now) {
  const auto found = roster_.find(WorkerId(wrong.worker_id()));
  if (found == roster_.end() || found->second.facts.instance != InstanceId(wrong.instance())) {
    return;
  }
  Member& member = found->second;
  if (member.quarantine.inside()) return;
  ++counters_.wrong_answers;
  const bool again = member.quarantine.AnsweredWrong(now);
  if (again && MayTakeOut(member)) {
    TakeOut(member,
            absl::StrFormat("its answers are wrong, last layer %d expert %d", wrong.layer(),
                            wrong.expert()),
            true, now);
    return;
  }
  Warn(absl::StrFormat(
      "worker %d (pid %d on %s) answered wrong for layer %d expert %d: it reads "
      "that expert again",
      member.id.value(), member.facts.pid, member.facts.host, wrong.layer(), wrong.expert()));
  v1::ToWorker reload;
  reload.mutable_reload()->set_layer(wrong.layer());
  reload.mutable_reload()->set_expert(wrong.expert());
  Do(SendToWorker{member.session, std::move(reload)});
}

// Never the last one that serves, and never more than half of them: then it is something else.
bool PoolState::MayTakeOut(const Member& member) const {
  size_t inside = 0;
  size_t others = 0;
  for (const auto& [id, other] : roster_) {
    inside += other.quarantine.inside();
    others += id != member.id && other.takes();
  }
  return others > 0 && 2 * (inside + 1) <= roster_.size();
}

void PoolState::TakeOut(Member& member, const std::string& reason, bool wrong, TimePoint now) {
  if (member.quarantine.inside() || !MayTakeOut(member)) return;
  member.quarantine.Enter(reason, wrong, now);
  ++counters_.quarantines;
  view_changed_ = true;
  const auto stay = std::chrono::duration_cast<std::chrono::milliseconds>(member.quarantine.stay());
  Warn(absl::StrFormat("worker %d (pid %d on %s) is in quarantine for %.1f s: %s",
                       member.id.value(), member.facts.pid, member.facts.host,
                       static_cast<double>(stay.count()) / 1e3, reason));
  if (!gathering_) {
    PlanSoon(absl::StrFormat("worker %d is in quarantine", member.id.value()), now);
  }
}

}  // namespace sheaf
