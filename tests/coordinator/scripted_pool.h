#pragma once
// ScriptedPool: a PoolState with a clock moved by hand and workers by script, which carry out what
// they are told: they load a few experts a turn, announce, drop, beat. One thread.

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/pool_state.h"
#include "exchange/wire/holdings.h"

namespace sheaf {

inline ModelIdentity SmallModel() {
  ModelIdentity model;
  model.digest = 77;
  model.num_layers = 4;
  model.first_moe_layer = 1;
  model.num_experts = 10;
  model.hidden_size = 128;
  model.name = "small";
  return model;
}

inline v1::FromWorker HelloOf(uint64_t instance, const ModelIdentity& model = SmallModel()) {
  v1::FromWorker message;
  v1::WorkerHello& hello = *message.mutable_hello();
  hello.set_protocol_version(kPoolProtocolVersion);
  ToProto(model, *hello.mutable_model());
  hello.set_instance(instance);
  hello.set_secret(std::string(32, 's'));
  hello.add_addresses("tcp:10.0.0.2:7001");
  hello.set_pid(100 + static_cast<int64_t>(instance));
  hello.set_host("a");
  hello.set_expert_bytes(1000);
  hello.set_preferred_id(-1);
  return message;
}

inline v1::FromRouter RouterHelloOf(uint64_t instance, const ModelIdentity& model = SmallModel()) {
  v1::FromRouter message;
  v1::RouterHello& hello = *message.mutable_hello();
  hello.set_protocol_version(kPoolProtocolVersion);
  ToProto(model, *hello.mutable_model());
  hello.set_instance(instance);
  hello.set_host("r");
  return message;
}

class ScriptedPool {
 public:
  static constexpr Duration kTick = std::chrono::milliseconds(50);

  struct Worker {
    SessionId session;
    uint64_t instance = 0;
    int id = -1;
    bool alive = true;  // beats and loads
    bool loads = true;
    Holdings held;
    std::vector<v1::Hold> holds;  // all that came
    std::vector<v1::ReloadExpert> reloads;
    bool dismissed = false;
    std::optional<absl::Status> ended;
    uint64_t beat = 0;
    size_t done = 0;  // holds carried out
  };

  explicit ScriptedPool(PoolStateOptions options) : state(std::move(options)) {}

  static PoolStateOptions Options(int workers, double replicas = 1) {
    PoolStateOptions options;
    options.model = SmallModel();
    options.expected_workers = workers;
    options.replicas = replicas;
    return options;
  }

  Worker& Join(uint64_t instance, v1::FromWorker hello) {
    workers.push_back(std::make_unique<Worker>());
    Worker& worker = *workers.back();
    worker.session = SessionId(++last_session_);
    worker.instance = instance;
    worker.held = Holdings(SmallModel().num_layers, SmallModel().num_experts);
    const std::string& bytes = hello.hello().holdings();
    if (const absl::StatusOr<Holdings> held =
            Holdings::Decode({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()},
                             SmallModel().num_layers, SmallModel().num_experts);
        held.ok()) {
      worker.held = *held;
    }
    state.WorkerOpened(worker.session, now);
    state.OnWorkerMessage(worker.session, hello, now, now);
    Collect();
    return worker;
  }
  Worker& Join(uint64_t instance) { return Join(instance, HelloOf(instance)); }

  SessionId JoinRouter(uint64_t instance) {
    const SessionId session(++last_session_);
    state.RouterOpened(session, now);
    state.OnRouterMessage(session, RouterHelloOf(instance), now);
    Collect();
    return session;
  }
  void Report(SessionId router, const v1::RouterReport& report) {
    v1::FromRouter message;
    *message.mutable_report() = report;
    state.OnRouterMessage(router, message, now);
    Collect();
  }
  void Say(Worker& worker, const v1::FromWorker& message) {
    state.OnWorkerMessage(worker.session, message, now, now);
    Collect();
  }
  void Announce(Worker& worker) {
    ++worker.held.number;
    v1::FromWorker message;
    message.mutable_holdings()->set_holdings(worker.held.Encode());
    Say(worker, message);
  }
  void Close(Worker& worker) {
    worker.alive = false;
    state.Closed(worker.session, now);
    Collect();
  }

  // Lets time pass; workers work at each tick.
  void Run(Duration time) {
    for (const TimePoint end = now + time; now < end;) {
      now += kTick;
      for (auto& worker : workers) Work(*worker);
      state.Tick(now, false);
      Collect();
      CheckCoverage();
    }
  }

  int HoldersOf(int layer, int expert) const {
    int holders = 0;
    for (const auto& worker : workers) {
      holders +=
          worker->alive && !worker->ended && worker->held.Has(LayerId(layer), ExpertId(expert));
    }
    return holders;
  }
  int Least() const {
    int least = 1000;
    for (int layer = 1; layer < 4; ++layer) {
      for (int e = 0; e < 10; ++e) least = std::min(least, HoldersOf(layer, e));
    }
    return least;
  }
  bool Noted(const std::string& text) const {
    return std::any_of(notes.begin(), notes.end(),
                       [&](const std::string& note) { return note.find(text) != note.npos; });
  }

  PoolState state;
  TimePoint now = TimePoint(std::chrono::seconds(100));
  std::vector<std::unique_ptr<Worker>> workers;
  std::vector<std::string> notes;
  std::vector<LostWorker> lost;
  std::map<SessionId, std::vector<v1::PoolView>> views;
  std::map<SessionId, absl::Status> router_ends;
  // While set: an expert that had a holder must keep one.
  bool must_stay_covered = false;

 private:
  void Work(Worker& worker) {
    if (!worker.alive || worker.ended || worker.id < 0) return;
    bool changed = false;
    if (worker.loads && worker.done < worker.holds.size()) {
      const v1::Hold& hold = worker.holds.back();
      Holdings wanted(SmallModel().num_layers, SmallModel().num_experts);
      int loads = 4;
      for (const v1::ExpertRange& range : hold.experts()) {
        for (int e = range.begin(); e < range.end(); ++e) {
          const LayerId layer(range.layer());
          wanted.Add(layer, ExpertId(e));
          if (worker.held.Has(layer, ExpertId(e))) continue;
          if (loads-- <= 0) continue;
          worker.held.Add(layer, ExpertId(e));
          changed = true;
        }
      }
      for (const LayerExpert& one : worker.held.List()) {
        if (wanted.Has(one.layer, one.expert)) continue;
        worker.held.Remove(one.layer, one.expert);
        changed = true;
      }
      if (loads >= 0) worker.done = worker.holds.size();
    }
    if (changed) Announce(worker);
    v1::FromWorker message;
    message.mutable_beat()->set_sequence(++worker.beat);
    message.mutable_beat()->set_hold_number(worker.holds.empty() ? 0
                                                                 : worker.holds.back().number());
    Say(worker, message);
  }

  void Collect() {
    for (PoolAction& action : state.TakeActions()) {
      if (auto* note = std::get_if<LogNote>(&action)) notes.push_back(note->text);
      if (auto* gone = std::get_if<LostWorker>(&action)) lost.push_back(*gone);
      if (auto* router = std::get_if<SendToRouter>(&action)) {
        views[router->session].push_back(router->message.view());
      }
      for (auto& worker : workers) {
        if (auto* end = std::get_if<EndSession>(&action); end && end->session == worker->session) {
          worker->ended = end->status;
        }
        auto* sent = std::get_if<SendToWorker>(&action);
        if (sent == nullptr || sent->session != worker->session) continue;
        if (sent->message.has_welcome()) worker->id = sent->message.welcome().worker_id();
        if (sent->message.has_hold()) worker->holds.push_back(sent->message.hold());
        if (sent->message.has_reload()) worker->reloads.push_back(sent->message.reload());
        if (sent->message.has_dismissed()) worker->dismissed = true;
      }
      if (auto* end = std::get_if<EndSession>(&action)) router_ends[end->session] = end->status;
    }
  }

  void CheckCoverage();

  uint64_t last_session_ = 0;

 public:
  bool lost_coverage = false;
};

inline void ScriptedPool::CheckCoverage() {
  if (must_stay_covered && Least() == 0) lost_coverage = true;
}

// A pool of `count` that holds everything.
inline std::unique_ptr<ScriptedPool> FullPool(int count, double replicas = 1) {
  auto pool = std::make_unique<ScriptedPool>(ScriptedPool::Options(count, replicas));
  for (int i = 0; i < count; ++i) pool->Join(static_cast<uint64_t>(i + 1));
  pool->Run(std::chrono::seconds(4));
  EXPECT_TRUE(pool->state.Status(pool->now).complete());
  return pool;
}

// What a router says of its link to a worker.
inline void Link(ScriptedPool& pool, v1::RouterReport& report, size_t worker, bool live,
          int failures = 0) {
  v1::LinkReport& link = *report.add_links();
  link.set_worker_id(pool.workers[worker]->id);
  link.set_instance(pool.workers[worker]->instance);
  link.set_live(live);
  link.set_failures(failures);
  if (!live) link.set_reason("connection refused");
}

}  // namespace sheaf
