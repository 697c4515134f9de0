#include "exchange/pool/pool_links.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "exchange/wire/holdings.h"

namespace sheaf {
namespace {

constexpr int32_t kMaxWorkerId = 1 << 16;
constexpr int kExpectedTimesForSilence = 20;

}  // namespace

struct PoolLinks::Entry {
  Entry(const WorkerEndpoint& worker, const LinkLifeOptions& options, uint64_t seed)
      : endpoint(worker), life(options, seed) {}

  WorkerEndpoint endpoint;
  bool listed = true;
  LinkLife life;
  LinkId connecting;  // of the attempt under way; 0 = none
  std::unique_ptr<FrameLink> link;
  uint64_t sequence = 0;         // of the last dispatch
  uint64_t holdings_number = 0;  // announced last
  std::optional<uint64_t> seen_unsent;
  bool unreleased = false;
  int64_t failures = 0;
  int64_t late_answers = 0;
  std::string path;
  std::string reason;

  bool live() const { return life.state() == LinkLife::State::kLive; }
};

PoolLinks::PoolLinks(const PoolLinksOptions& options, LinkPoolObserver* observer)
    : options_(options),
      observer_(observer),
      table_(options.model.num_layers, options.model.first_moe_layer, options.model.num_experts),
      times_(options.times),
      random_(options.seed | 1) {}

PoolLinks::~PoolLinks() = default;

uint64_t PoolLinks::Random() {
  // splitmix64
  uint64_t x = random_ += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

PoolLinks::Entry* PoolLinks::Find(WorkerId worker) const {
  const auto index = static_cast<size_t>(worker.value());
  return worker.value() < 0 || index >= by_id_.size() ? nullptr : by_id_[index];
}

void PoolLinks::SetWorkers(std::vector<WorkerEndpoint> workers, TimePoint now) {
  for (auto& entry : entries_) entry->listed = false;
  for (const WorkerEndpoint& endpoint : workers) {
    if (endpoint.worker.value() < 0 || endpoint.worker.value() >= kMaxWorkerId) continue;
    const auto index = static_cast<size_t>(endpoint.worker.value());
    if (index >= by_id_.size()) by_id_.resize(index + 1);
    Entry* entry = by_id_[index];
    if (entry == nullptr) {
      const auto at = std::lower_bound(
          entries_.begin(), entries_.end(), endpoint.worker,
          [](const auto& known, WorkerId id) { return known->endpoint.worker < id; });
      entry =
          entries_.insert(at, std::make_unique<Entry>(endpoint, options_.life, Random()))->get();
      by_id_[index] = entry;
      cursor_ = 0;
    }
    entry->listed = true;
    if (entry->endpoint.instance != endpoint.instance) {
      if (entry->link != nullptr)
        Lose(*entry, absl::UnavailableError("another process has this worker's id now"), now);
      times_.Forget(endpoint.worker);
      entry->connecting = LinkId(0);
      entry->reason.clear();
      entry->life.StartAfresh(now);
    }
    entry->endpoint = endpoint;
  }
  for (auto& entry : entries_) entry->life.SetWanted(entry->listed, now);
  ++changes_;
}

bool PoolLinks::NextConnect(TimePoint now, ConnectJob& job) {
  for (auto& entry : entries_) {
    const LinkLife::State state = entry->life.state();
    if (state != LinkLife::State::kBackOff) continue;
    if (entry->life.Due(now) != LinkLife::Action::kConnect) continue;
    do entry->connecting = LinkId(Random());
    while (entry->connecting == LinkId(0));
    job.worker = entry->endpoint.worker;
    job.addresses = entry->endpoint.addresses;
    job.request = {options_.model.digest, entry->endpoint.instance, options_.router,
                   entry->connecting,     entry->endpoint.key,      options_.rows_of_8_bits};
    return true;
  }
  return false;
}

void PoolLinks::Connected(WorkerId worker, LinkId link,
                          absl::StatusOr<std::unique_ptr<FrameLink>> result, TimePoint now) {
  Entry* entry = Find(worker);
  if (entry == nullptr || entry->connecting != link) return;  // of a process that is gone
  entry->connecting = LinkId(0);
  ++changes_;
  if (!result.ok()) {
    ++entry->failures;
    const std::string reason(result.status().message());
    if (reason != entry->reason && observer_ != nullptr)
      observer_->OnConnectFailed(worker, result.status());
    entry->reason = reason;
    entry->life.ConnectFailed(result.status(), now);
    return;
  }
  entry->link = *std::move(result);
  entry->path = entry->link->path();
  entry->sequence = 0;
  entry->holdings_number = 0;
  entry->seen_unsent.reset();
  entry->unreleased = false;
  entry->life.Connected(now);
}

absl::StatusOr<std::span<uint8_t>> PoolLinks::Reserve(WorkerId worker, size_t bytes,
                                                      TimePoint now) {
  Entry* entry = Find(worker);
  if (entry == nullptr || entry->link == nullptr || !entry->live()) {
    backlog_.push_back({PoolEvent::Kind::kLinkLost, worker, 0, {}, {}, false, "there is no link"});
    return absl::UnavailableError(absl::StrFormat("worker %d: there is no link", worker.value()));
  }
  absl::StatusOr<std::span<uint8_t>> memory = entry->link->Reserve(bytes);
  if (!memory.ok() && !absl::IsResourceExhausted(memory.status()))
    Lose(*entry, memory.status(), now);
  return memory;
}

absl::Status PoolLinks::Send(WorkerId worker, uint64_t ask, FrameHeader header, Duration expected,
                             TimePoint now) {
  Entry* entry = Find(worker);
  if (entry == nullptr || entry->link == nullptr)
    return absl::UnavailableError(absl::StrFormat("worker %d: there is no link", worker.value()));
  header.link = entry->link->id();
  header.sequence = entry->sequence + 1;
  header.model = static_cast<uint32_t>(options_.model.digest);
  const absl::Status sent = entry->link->SendForRing(header, bells_);
  if (!sent.ok()) {
    if (!absl::IsResourceExhausted(sent)) Lose(*entry, sent, now);
    return sent;
  }
  ++entry->sequence;
  const Duration patience = std::max(options_.silence, expected * kExpectedTimesForSilence);
  entry->life.Asked({header, ask, now, now + patience});
  return absl::OkStatus();
}

bool PoolLinks::Next(TimePoint now, bool all, PoolEvent& event) {
  for (size_t looked = 0; looked < entries_.size();) {
    if (!backlog_.empty() && !idle_) break;
    if (cursor_ >= entries_.size()) cursor_ = 0;
    Entry& entry = *entries_[cursor_];
    if (entry.link == nullptr || (!all && entry.life.owed().empty())) {
      ++cursor_;
      ++looked;
      continue;
    }
    absl::StatusOr<std::optional<ArrivedFrame>> next = entry.link->Next();
    if (!next.ok()) {
      Lose(entry, next.status(), now);
    } else if (next->has_value()) {
      entry.unreleased = true;
      if (Take(entry, **next, now, event)) return true;
      looked = 0;
      continue;
    }
    ++cursor_;
    ++looked;
  }
  if (backlog_.empty() || idle_) return false;
  event = std::move(backlog_.front());
  backlog_.pop_front();
  return true;
}

bool PoolLinks::Take(Entry& entry, const ArrivedFrame& frame, TimePoint now, PoolEvent& event) {
  if (frame.header.model != static_cast<uint32_t>(options_.model.digest)) {
    Lose(entry, absl::InvalidArgumentError(Describe(frame.header) + ": of another model"), now);
    return false;
  }
  switch (frame.header.kind) {
    case FrameKind::kHoldings:
      TakeHoldings(entry, frame, now);
      return false;
    case FrameKind::kCombine:
    case FrameKind::kError:
    case FrameKind::kNotHeld:
      return TakeAnswer(entry, frame, now, event);
    default:
      Lose(entry, absl::InvalidArgumentError(Describe(frame.header) + ": not for a router"), now);
      return false;
  }
}

void PoolLinks::TakeHoldings(Entry& entry, const ArrivedFrame& frame, TimePoint now) {
  const absl::StatusOr<Holdings> holdings =
      Holdings::Decode(frame.payload, table_.num_layers(), table_.num_experts());
  if (!holdings.ok()) {
    Lose(entry, holdings.status(), now);
    return;
  }
  const WorkerId worker = entry.endpoint.worker;
  const bool first = !entry.live();
  if (first || holdings->number >= entry.holdings_number) {
    entry.holdings_number = holdings->number;
    table_.SetHoldings(worker, *holdings);
    ++changes_;
  }
  if (first) {
    entry.life.Greeted(now);
    ++live_;
    if (observer_ != nullptr) observer_->OnLinkUp(worker, entry.path);
  }
  entry.seen_unsent = entry.holdings_number;
  SayHoldingsSeen(entry, now);
  if (!idle_) backlog_.push_back({PoolEvent::Kind::kHoldings, worker, 0, {}, {}, false, ""});
}

void PoolLinks::SayHoldingsSeen(Entry& entry, TimePoint now) {
  if (!entry.seen_unsent.has_value() || entry.link == nullptr) return;
  FrameHeader header;
  header.kind = FrameKind::kHoldingsSeen;
  header.link = entry.link->id();
  header.sequence = *entry.seen_unsent;
  header.model = static_cast<uint32_t>(options_.model.digest);
  absl::Status sent = entry.link->Reserve(0).status();
  if (sent.ok()) sent = entry.link->Send(header);
  if (sent.ok()) {
    entry.seen_unsent.reset();
  } else if (!absl::IsResourceExhausted(sent)) {
    Lose(entry, sent, now);
  }
}

bool PoolLinks::TakeAnswer(Entry& entry, const ArrivedFrame& frame, TimePoint now,
                           PoolEvent& event) {
  const std::optional<LinkLife::OwedAnswer> owed = entry.life.Answered(frame.header.sequence);
  if (!owed.has_value()) {
    Lose(entry, absl::InvalidArgumentError(Describe(frame.header) + ": answers nothing"), now);
    return false;
  }
  FrameHeader wanted;
  switch (frame.header.kind) {
    case FrameKind::kCombine:
      wanted = CombineHeaderFor(owed->dispatch);
      break;
    case FrameKind::kError:
      wanted = ErrorHeaderFor(owed->dispatch,
                              std::min(frame.header.payload_bytes, kMaxErrorTextBytes));
      break;
    default:
      wanted = NotHeldHeaderFor(owed->dispatch,
                                std::min(frame.header.experts, owed->dispatch.experts));
  }
  if (!(frame.header == wanted) || frame.payload.size() != frame.header.payload_bytes) {
    const absl::Status why = absl::InvalidArgumentError(absl::StrFormat(
        "%s does not fit %s: wanted %d bytes, got %d", Describe(frame.header),
        Describe(owed->dispatch), wanted.payload_bytes, frame.payload.size()));
    entry.life.Asked(*owed);  // the step hears of it by the lost link
    Lose(entry, why, now);
    return false;
  }
  event = {PoolEvent::Kind::kAnswer, entry.endpoint.worker, owed->ask, owed->dispatch, frame,
           false, ""};
  return true;
}

void PoolLinks::Lose(Entry& entry, const absl::Status& why, TimePoint now) {
  if (entry.link == nullptr) return;
  const WorkerId worker = entry.endpoint.worker;
  // While no step runs it matters only to those that still expect something of it.
  const bool tell = !idle_ || !entry.life.owed().empty();
  if (entry.live()) --live_;
  table_.Remove(worker);
  entry.life.Broken(now);
  if (entry.unreleased) {
    buried_.push_back(std::move(entry.link));
  } else {
    entry.link.reset();
  }
  ++entry.failures;
  ++changes_;
  entry.reason = std::string(why.message());
  if (tell)
    backlog_.push_back({PoolEvent::Kind::kLinkLost, worker, 0, {}, {}, false, entry.reason});
  if (observer_ != nullptr) observer_->OnLinkDown(worker, why);
}

void PoolLinks::Release() {
  Ring();  // while those links are there
  for (auto& entry : entries_) {
    if (!entry->unreleased) continue;
    entry->unreleased = false;
    if (entry->link != nullptr) entry->link->Release();
  }
  buried_.clear();
}

void PoolLinks::Break(WorkerId worker, const absl::Status& why, TimePoint now) {
  if (Entry* entry = Find(worker)) Lose(*entry, why, now);
}

void PoolLinks::CountLate(WorkerId worker) {
  if (Entry* entry = Find(worker)) ++entry->late_answers;
  if (observer_ != nullptr) observer_->OnLateAnswer(worker);
}

void PoolLinks::Judge(TimePoint now) {
  const TimePoint before = std::exchange(last_judged_, now);
  // This process was stopped, or starved: what it did not read in that time says nothing about
  // others.
  const bool slept = before != TimePoint{} && now - before > options_.sleep;
  for (auto& entry : entries_) {
    if (slept) entry->life.Forgive(now - before);
    if (entry->link == nullptr) continue;
    if (entry->seen_unsent.has_value()) SayHoldingsSeen(*entry, now);
    if (entry->life.Due(now) == LinkLife::Action::kBreak) Lose(*entry, entry->life.Why(now), now);
  }
}

void PoolLinks::Idle(TimePoint now) {
  idle_ = true;
  PoolEvent event;
  while (Next(now, true, event)) {
    event.frame.payload = {};
    event.taken_late = true;
    backlog_.push_back(std::move(event));
  }
  Release();
  Judge(now);
  Release();
  idle_ = false;
}

TimePoint PoolLinks::WakeAt() const {
  TimePoint wake = TimePoint::max();
  for (const auto& entry : entries_) wake = std::min(wake, entry->life.WakeAt());
  return wake;
}

bool PoolLinks::Greeting() const {
  return std::any_of(entries_.begin(), entries_.end(), [](const auto& entry) {
    return entry->life.state() == LinkLife::State::kGreeting;
  });
}

std::vector<WorkerLinkStatus> PoolLinks::Status() const {
  std::vector<WorkerLinkStatus> result;
  for (const auto& entry : entries_) {
    if (!entry->listed && entry->link == nullptr) continue;
    const WorkerId worker = entry->endpoint.worker;
    result.push_back({worker, entry->endpoint.instance, entry->endpoint.name, entry->live(),
                      entry->path, entry->reason, entry->failures, entry->late_answers,
                      static_cast<int>(entry->life.owed().size()),
                      times_.Known(worker) ? times_.SecondsPerUnit(worker) : 0});
  }
  return result;
}

}  // namespace sheaf
