#include "coordinator/coordinator.h"

#include <spdlog/spdlog.h>

#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "coordinator/coordinator_metrics.h"

namespace sheaf {
namespace {

absl::Status ShuttingDown() { return absl::UnavailableError("the coordinator is shutting down"); }

}  // namespace

Coordinator::Coordinator(CoordinatorOptions options, const Clock& clock,
                         CoordinatorObserver* observer, CoordinatorMetrics* metrics)
    : options_(std::move(options)),
      clock_(clock),
      observer_(observer),
      metrics_(metrics),
      state_(options_.pool),
      thread_([this] { Run(); }) {}

Coordinator::~Coordinator() { Stop(); }

void Coordinator::Stop() {
  {
    absl::MutexLock lock(&inbox_mutex_);
    stopping_ = true;
  }
  if (thread_.joinable()) thread_.join();
  std::map<SessionId, PeerPtr> peers;
  {
    absl::MutexLock lock(&inbox_mutex_);
    peers.swap(peers_);
    inbox_.clear();
  }
  for (const auto& [session, peer] : peers) End(peer, ShuttingDown());
}

SessionId Coordinator::AttachWorker(std::shared_ptr<WorkerPeer> peer) {
  return Attach(std::move(peer), false);
}
SessionId Coordinator::AttachRouter(std::shared_ptr<RouterPeer> peer) {
  return Attach(std::move(peer), true);
}

SessionId Coordinator::Attach(PeerPtr peer, bool router) {
  SessionId session;
  absl::Status refused;
  {
    absl::MutexLock lock(&inbox_mutex_);
    session = SessionId(++last_session_);
    if (stopping_) {
      refused = ShuttingDown();
    } else if (peers_.size() >= options_.max_sessions) {
      refused = absl::ResourceExhaustedError(
          absl::StrFormat("all %d sessions are taken", options_.max_sessions));
    } else {
      peers_[session] = peer;
      inbox_.push_back({session, Opened{router}, clock_.Now()});
    }
  }
  if (!refused.ok()) End(peer, refused);
  return session;
}

void Coordinator::Push(SessionId session,
                       std::variant<Opened, Gone, v1::FromWorker, v1::FromRouter> what) {
  PeerPtr cut_off;
  bool cut = false;
  {
    absl::MutexLock lock(&inbox_mutex_);
    const auto found = peers_.find(session);
    if (found == peers_.end() || stopping_) return;
    // An end is never lost; there are at most two a session.
    if (!std::holds_alternative<Gone>(what) && inbox_.size() >= options_.max_waiting) {
      cut = true;
      cut_off = found->second;
      peers_.erase(found);
      what = Gone{};
    }
    inbox_.push_back({session, std::move(what), clock_.Now()});
  }
  if (cut) End(cut_off, absl::AbortedError("the coordinator does not keep up; join again"));
}

void Coordinator::OnWorkerMessage(SessionId session, v1::FromWorker message) {
  if (metrics_ != nullptr) metrics_->Received(message.ByteSizeLong());
  Push(session, std::move(message));
}
void Coordinator::OnRouterMessage(SessionId session, v1::FromRouter message) {
  if (metrics_ != nullptr) metrics_->Received(message.ByteSizeLong());
  Push(session, std::move(message));
}
void Coordinator::OnClosed(SessionId session) { Push(session, Gone{}); }

void Coordinator::Run() {
  TimePoint next_tick = clock_.Now();
  for (;;) {
    std::vector<Incoming> incoming;
    {
      absl::MutexLock lock(&inbox_mutex_);
      const auto something = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(inbox_mutex_) {
        return stopping_ || !inbox_.empty();
      };
      inbox_mutex_.AwaitWithTimeout(absl::Condition(&something), absl::FromChrono(options_.tick));
      if (stopping_) return;
      incoming.swap(inbox_);
    }
    std::vector<PoolAction> actions;
    {
      absl::MutexLock lock(&state_mutex_);
      for (Incoming& one : incoming) Feed(one);
      const TimePoint now = clock_.Now();
      if (now >= next_tick) {
        next_tick = now + options_.tick;
        bool unread = false;
        {
          absl::MutexLock inbox_lock(&inbox_mutex_);
          unread = !inbox_.empty();
        }
        const int64_t plans = state_.counters().plans;
        const TimePoint began = std::chrono::steady_clock::now();
        state_.Tick(now, unread);
        if (metrics_ != nullptr) {
          if (state_.counters().plans != plans) {
            metrics_->Planned(std::chrono::steady_clock::now() - began);
          }
          metrics_->PoolIs(state_.Figures(), state_.counters());
        }
      }
      actions = state_.TakeActions();
    }
    Carry(std::move(actions));
    // After what the session's last messages brought: a refusal is not lost to a peer that has
    // closed its half.
    for (const Incoming& one : incoming) {
      if (std::holds_alternative<Gone>(one.what)) {
        End(FindPeer(one.session, true), absl::OkStatus());
      }
    }
    rounds_.fetch_add(1, std::memory_order_relaxed);
  }
}

void Coordinator::Feed(Incoming& incoming) {
  const TimePoint now = clock_.Now();
  if (const auto* opened = std::get_if<Opened>(&incoming.what)) {
    if (opened->router) {
      state_.RouterOpened(incoming.session, now);
    } else {
      state_.WorkerOpened(incoming.session, now);
    }
  } else if (std::holds_alternative<Gone>(incoming.what)) {
    state_.Closed(incoming.session, now);
  } else if (const auto* worker = std::get_if<v1::FromWorker>(&incoming.what)) {
    state_.OnWorkerMessage(incoming.session, *worker, incoming.received, now);
  } else {
    state_.OnRouterMessage(incoming.session, std::get<v1::FromRouter>(incoming.what), now);
  }
}

Coordinator::PeerPtr Coordinator::FindPeer(SessionId session, bool forget) {
  absl::MutexLock lock(&inbox_mutex_);
  const auto found = peers_.find(session);
  if (found == peers_.end()) return {};
  PeerPtr peer = found->second;
  if (forget) peers_.erase(found);
  return peer;
}

void Coordinator::End(const PeerPtr& peer, const absl::Status& status) {
  std::visit(
      [&](const auto& one) {
        if (one != nullptr) one->End(status);
      },
      peer);
}

void Coordinator::Carry(std::vector<PoolAction> actions) {
  for (const PoolAction& action : actions) {
    if (const auto* worker = std::get_if<SendToWorker>(&action)) {
      const PeerPtr found = FindPeer(worker->session, false);
      if (const auto* peer = std::get_if<std::shared_ptr<WorkerPeer>>(&found);
          peer != nullptr && *peer != nullptr) {
        if (metrics_ != nullptr) metrics_->Sent(worker->message.ByteSizeLong());
        (*peer)->Send(worker->message);
      }
    } else if (const auto* router = std::get_if<SendToRouter>(&action)) {
      const PeerPtr found = FindPeer(router->session, false);
      if (const auto* peer = std::get_if<std::shared_ptr<RouterPeer>>(&found);
          peer != nullptr && *peer != nullptr) {
        if (metrics_ != nullptr) metrics_->Sent(router->message.ByteSizeLong());
        (*peer)->Send(router->message);
      }
    } else if (const auto* end = std::get_if<EndSession>(&action)) {
      End(FindPeer(end->session, true), end->status);
    } else if (const auto* note = std::get_if<LogNote>(&action)) {
      const auto limit = note->of_stranger ? strangers_said_.Say(clock_.Now()) : std::string();
      if (!limit) continue;
      spdlog::log(note->warning ? spdlog::level::warn : spdlog::level::info, "pool: {}{}",
                  note->text, *limit);
    } else if (const auto* refused = std::get_if<RefusedExpert>(&action)) {
      if (observer_ != nullptr) observer_->OnExpertRefused(*refused);
    } else if (const auto* lost = std::get_if<LostWorker>(&action)) {
      if (observer_ != nullptr) observer_->OnWorkerLost(*lost);
    }
  }
}

v1::PoolStatus Coordinator::status() const {
  absl::MutexLock lock(&state_mutex_);
  return state_.Status(clock_.Now());
}
absl::Status Coordinator::Drain(WorkerId worker) {
  absl::MutexLock lock(&state_mutex_);
  return state_.Drain(worker, clock_.Now());
}
void Coordinator::NoteRefusedOperator(const absl::Status& why) {
  absl::MutexLock lock(&state_mutex_);
  state_.NoteRefusedOperator(why);
}
absl::Status Coordinator::Undrain(WorkerId worker) {
  absl::MutexLock lock(&state_mutex_);
  return state_.Undrain(worker, clock_.Now());
}
absl::Status Coordinator::SetReplicas(double replicas) {
  absl::MutexLock lock(&state_mutex_);
  return state_.SetReplicas(replicas, clock_.Now());
}
int64_t Coordinator::Rebalance() {
  absl::MutexLock lock(&state_mutex_);
  return state_.Rebalance(clock_.Now());
}

}  // namespace sheaf
