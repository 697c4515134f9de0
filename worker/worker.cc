#include "worker/worker.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <atomic>
#include <optional>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/bounded_queue.h"
#include "worker/compute_thread.h"
#include "worker/router_session.h"

namespace sheaf {
namespace {

constexpr size_t kMaxEvents = 1024;
constexpr Duration kProgressEvery = std::chrono::milliseconds(100);
// A router whose answers to heartbeats stay away for this many leases is gone.
constexpr int kSilentLeases = 5;
constexpr Duration kAssignmentTimeout = std::chrono::seconds(30);
// Bounds on what an assignment may claim.
constexpr int64_t kMaxLeaseMs = 3'600'000;
constexpr size_t kMaxSliceExperts = size_t{1} << 24;

struct FromRouter {
  uint64_t session;
  v1::RouterMessage message;
};
struct SessionEnded {
  uint64_t session;
};
struct Loaded {
  uint64_t load;
  absl::StatusOr<SliceFacts> facts;
};
struct LinkEnded {
  Epoch epoch;
  absl::Status why;
};
struct StopAsked {};
using Event = std::variant<FromRouter, SessionEnded, Loaded, LinkEnded, StopAsked>;

TimePoint Now() { return std::chrono::steady_clock::now(); }

bool IsFinal(const absl::Status& status) {
  return absl::IsFailedPrecondition(status) || absl::IsInvalidArgument(status) ||
         absl::IsUnimplemented(status);
}

absl::StatusOr<std::vector<LayerExpert>> ExpertsOf(const v1::Assignment& assignment,
                                                   const ModelIdentity& model) {
  std::vector<LayerExpert> experts;
  for (const v1::ExpertRange& range : assignment.slice()) {
    if (range.layer() < model.first_moe_layer || range.layer() >= model.num_layers ||
        range.begin() < 0 || range.begin() >= range.end() || range.end() > model.num_experts ||
        experts.size() + static_cast<size_t>(range.end() - range.begin()) > kMaxSliceExperts) {
      return absl::InvalidArgumentError(
          absl::StrFormat("assignment: layer %d, experts %d..%d are not in the model",
                          range.layer(), range.begin(), range.end()));
    }
    for (int expert = range.begin(); expert < range.end(); ++expert) {
      experts.push_back({LayerId(range.layer()), ExpertId(expert)});
    }
  }
  return experts;
}

}  // namespace

struct Worker::Impl final : ComputeEvents {
  Impl(WorkerConfig chosen, SliceLoader loader, Transport& given_transport,
       WorkerMetrics& given_metrics)
      : config(std::move(chosen)),
        transport(given_transport),
        metrics(given_metrics),
        events(kMaxEvents),
        preferred_slot(config.preferred_slot),
        compute(std::max(1, config.threads), std::move(loader), *this, &metrics) {}

  // Constant after construction.
  const WorkerConfig config;
  Transport& transport;
  WorkerMetrics& metrics;

  BoundedQueue<Event> events;
  std::atomic<size_t> loaded_bytes{0};
  std::atomic<size_t> slice_bytes{0};
  std::atomic<bool> stop_asked{false};

  // The control thread.
  uint64_t session_number = 0;
  std::unique_ptr<RouterSession> session;
  int preferred_slot;
  std::optional<WorkerId> slot;  // of this session
  Duration lease = std::chrono::seconds(1);
  bool loading = false;
  size_t told_bytes = 0;
  std::unique_ptr<WorkerLink> prepared;  // next epoch's end, not connected yet
  Epoch serving;                         // epoch handed to the compute thread; 0 = none
  uint64_t heartbeat = 0;
  TimePoint next_heartbeat;
  TimePoint last_heard;
  std::optional<absl::Status> final_error;  // Run ends with it
  std::string end_reason;                   // why this session ended, if we know better than gRPC

  ComputeThread compute;  // last: its events need the rest

  // ComputeEvents.
  void OnLoadProgress(size_t done_bytes, size_t total_bytes) override {
    loaded_bytes = done_bytes;
    slice_bytes = total_bytes;
    metrics.LoadedIs(done_bytes, total_bytes);
  }
  void OnLoaded(uint64_t load, absl::StatusOr<SliceFacts> facts) override {
    events.TryPush(Loaded{load, std::move(facts)});
  }
  void OnLinkEnded(Epoch epoch, const absl::Status& why) override {
    events.TryPush(LinkEnded{epoch, why});
  }

  absl::Status Run() {
    Duration back_off = config.first_back_off;
    TimePoint last_joined = Now();
    while (!stop_asked) {
      const absl::Status ended = RunSession();
      if (final_error.has_value()) return *final_error;
      if (stop_asked) break;
      if (slot.has_value()) {  // it was a real session
        back_off = config.first_back_off;
        last_joined = Now();
      }
      if (!slot.has_value() && IsFinal(ended)) return ended;
      if (Now() - last_joined > config.join_patience) {
        return absl::UnavailableError(
            absl::StrFormat("no router at %s: %s", config.router, std::string(ended.message())));
      }
      spdlog::warn("no session with the router at {}: {}; trying again", config.router,
                   std::string(ended.message()));
      const TimePoint again = Now() + back_off;
      while (!stop_asked && Now() < again) {
        events.PopUntil(again);  // what the last session left behind, or Stop
      }
      back_off = std::min(back_off * 2, config.max_back_off);
    }
    compute.Stop();
    return absl::OkStatus();
  }

  absl::Status RunSession() {
    slot.reset();
    end_reason.clear();
    prepared = nullptr;
    serving = Epoch(0);
    loading = false;
    heartbeat = 0;
    const uint64_t number = ++session_number;
    session = std::make_unique<RouterSession>(
        config.router,
        RouterSession::Callbacks{[this, number](v1::RouterMessage message) {
                                   // A full queue is a router gone wild; the lost message shows up
                                   // as a lost epoch.
                                   events.TryPush(FromRouter{number, std::move(message)});
                                 },
                                 [this, number] { events.TryPush(SessionEnded{number}); }});
    SendJoin();
    next_heartbeat = Now() + kAssignmentTimeout;
    last_heard = Now();

    bool open = true;
    while (open && !final_error.has_value()) {
      TimePoint wake = next_heartbeat;
      if (loading) wake = std::min(wake, Now() + kProgressEvery);
      std::optional<Event> event = events.PopUntil(wake);
      if (event.has_value()) open = Handle(number, *event);
      if (open && stop_asked) {
        Leave();
        open = false;
      }
      if (open) open = KeepLease();
    }
    compute.Idle();
    metrics.EpochIs(Epoch(0));
    const absl::Status status = session->Close();
    session = nullptr;
    if (slot.has_value()) metrics.SessionIs(false);
    if (!end_reason.empty()) return absl::UnavailableError(end_reason);
    return status.ok() ? absl::UnavailableError("the router ended the session") : status;
  }

  // False: this session is over.
  bool Handle(uint64_t number, Event& event) {
    if (auto* ended = std::get_if<SessionEnded>(&event)) return ended->session != number;
    if (auto* from_router = std::get_if<FromRouter>(&event)) {
      if (from_router->session != number) return true;
      last_heard = Now();
      return Understand(from_router->message);
    }
    if (auto* loaded = std::get_if<Loaded>(&event); loaded != nullptr && loaded->load == number)
      OnSlice(loaded->facts);
    if (auto* link = std::get_if<LinkEnded>(&event)) {
      if (link->epoch != serving || absl::IsCancelled(link->why)) return true;
      serving = Epoch(0);
      metrics.EpochIs(Epoch(0));
      spdlog::warn("link of epoch {} ended: {}", link->epoch.value(),
                   std::string(link->why.message()));
      SendEpochFailed(link->epoch, link->why);
    }
    return true;
  }

  bool Understand(const v1::RouterMessage& message) {
    switch (message.message_case()) {
      case v1::RouterMessage::kAssignment:
        OnAssignment(message.assignment());
        return true;
      case v1::RouterMessage::kPrepareEpoch:
        OnPrepare(Epoch(message.prepare_epoch().epoch()));
        return true;
      case v1::RouterMessage::kOpenEpoch:
        OnOpen(Epoch(message.open_epoch().epoch()), message.open_epoch().router_address());
        return true;
      case v1::RouterMessage::kEpochServing:
        spdlog::info("worker {} serves epoch {}", slot.has_value() ? slot->value() : -1,
                     message.epoch_serving().epoch());
        return true;
      case v1::RouterMessage::kLeaseRenewed:
        return true;
      case v1::RouterMessage::kDismissed:
        end_reason = absl::StrCat("dismissed: ", message.dismissed().reason());
        return false;
      case v1::RouterMessage::MESSAGE_NOT_SET:
        return true;
    }
    return true;
  }

  void OnAssignment(const v1::Assignment& assignment) {
    absl::StatusOr<std::vector<LayerExpert>> experts = ExpertsOf(assignment, config.model);
    if (!experts.ok() || assignment.lease_ms() < 1 || assignment.lease_ms() > kMaxLeaseMs ||
        slot.has_value() || assignment.slot() < 0) {
      final_error =
          experts.ok()
              ? absl::InvalidArgumentError("assignment: impossible slot or lease, or a second one")
              : experts.status();
      return;
    }
    slot = WorkerId(assignment.slot());
    preferred_slot = assignment.slot();
    lease = std::chrono::milliseconds(assignment.lease_ms());
    next_heartbeat = Now() + lease / 3;
    loading = true;
    told_bytes = 0;
    metrics.SessionIs(true);
    spdlog::info("worker {} of {}: {} experts to hold", slot->value(), assignment.num_slots(),
                 experts->size());
    compute.Load(session_number, *std::move(experts));
  }

  void OnSlice(const absl::StatusOr<SliceFacts>& facts) {
    loading = false;
    if (!facts.ok()) {
      final_error = facts.status();
      return;
    }
    metrics.SliceIs(facts->resident_bytes, facts->num_experts);
    v1::WorkerMessage message;
    message.mutable_slice_ready()->set_slice_bytes(facts->resident_bytes);
    message.mutable_slice_ready()->set_num_experts(facts->num_experts);
    session->Send(message);
  }

  void OnPrepare(Epoch epoch) {
    if (!slot.has_value()) return;
    absl::StatusOr<std::unique_ptr<WorkerLink>> link = transport.NewWorkerLink(epoch, *slot);
    if (!link.ok()) {
      SendEpochFailed(epoch, link.status());
      return;
    }
    prepared = *std::move(link);
    v1::WorkerMessage message;
    message.mutable_epoch_prepared()->set_epoch(epoch.value());
    message.mutable_epoch_prepared()->set_address(prepared->address());
    session->Send(message);
  }

  void OnOpen(Epoch epoch, const std::string& router_address) {
    if (prepared == nullptr || prepared->epoch() != epoch) return;  // of an epoch that was given up
    std::shared_ptr<WorkerLink> link = std::move(prepared);
    if (absl::Status connected = link->Connect(router_address); !connected.ok()) {
      SendEpochFailed(epoch, connected);
      return;
    }
    serving = epoch;
    metrics.EpochIs(epoch);
    compute.Serve(std::move(link), *slot);
    v1::WorkerMessage message;
    message.mutable_epoch_opened()->set_epoch(epoch.value());
    session->Send(message);
  }

  void SendJoin() {
    v1::WorkerMessage message;
    v1::Join& join = *message.mutable_join();
    join.set_protocol_version(kClusterProtocolVersion);
    join.set_instance(config.instance);
    join.set_pid(config.pid);
    join.set_host(config.host);
    join.mutable_model()->set_config_hash(config.model.config_hash);
    join.mutable_model()->set_num_layers(config.model.num_layers);
    join.mutable_model()->set_first_moe_layer(config.model.first_moe_layer);
    join.mutable_model()->set_num_experts(config.model.num_experts);
    join.mutable_model()->set_hidden_size(config.model.hidden_size);
    join.set_preferred_slot(preferred_slot);
    join.set_threads(config.threads);
    join.set_metrics_address(config.metrics_address);
    join.set_version(config.version);
    session->Send(message);
  }

  void SendEpochFailed(Epoch epoch, const absl::Status& why) {
    v1::WorkerMessage message;
    message.mutable_epoch_failed()->set_epoch(epoch.value());
    message.mutable_epoch_failed()->set_reason(std::string(why.message()));
    session->Send(message);
  }

  // False: the router has been silent for too long.
  bool KeepLease() {
    const TimePoint now = Now();
    if (loading && loaded_bytes != told_bytes) {
      told_bytes = loaded_bytes;
      v1::WorkerMessage message;
      message.mutable_load_progress()->set_done_bytes(told_bytes);
      message.mutable_load_progress()->set_total_bytes(slice_bytes);
      session->Send(message);
    }
    if (now < next_heartbeat) return true;
    if (!slot.has_value()) {
      end_reason = "the router did not answer the join";
      return false;
    }
    if (now - last_heard > lease * kSilentLeases) {
      end_reason = "the router is silent";
      return false;
    }
    v1::WorkerMessage message;
    message.mutable_heartbeat()->set_sequence(++heartbeat);
    session->Send(message);  // a broken stream shows up as SessionEnded
    next_heartbeat = now + lease / 3;
    return true;
  }

  // Keeps answering on the data plane until the router has closed the epoch.
  void Leave() {
    if (!slot.has_value()) return;
    v1::WorkerMessage message;
    message.mutable_leave()->set_reason("asked to stop");
    session->Send(message);
    const TimePoint patience = Now() + config.leave_patience;
    const uint64_t number = session_number;
    while (Now() < patience) {
      std::optional<Event> event = events.PopUntil(patience);
      if (!event.has_value()) continue;
      if (std::holds_alternative<LinkEnded>(*event) || std::holds_alternative<Loaded>(*event))
        continue;
      if (!Handle(number, *event)) return;
    }
  }
};

Worker::Worker(WorkerConfig config, SliceLoader loader, Transport& transport,
               WorkerMetrics& metrics)
    : impl_(std::make_unique<Impl>(std::move(config), std::move(loader), transport, metrics)) {}

Worker::~Worker() = default;

absl::Status Worker::Run() { return impl_->Run(); }

void Worker::Stop() {
  impl_->stop_asked = true;
  impl_->events.TryPush(StopAsked{});
}

}  // namespace sheaf
