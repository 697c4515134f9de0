#include "tests/simulation/scenario.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "absl/strings/str_format.h"
#include "tests/simulation/simulated_coordinator.h"
#include "tests/simulation/router/simulated_router.h"
#include "tests/simulation/worker/simulated_worker.h"
#include "tests/simulation/world.h"

namespace sheaf::simulation {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Duration kStartBound = seconds(60);
constexpr Duration kStopBound = seconds(25);
constexpr Duration kCalmBound = seconds(30);

class Scenario {
 public:
  explicit Scenario(const ScenarioOptions& options)
      : options_(options),
        random_(Mix(options.seed)),
        world_(options.seed, options.print, Network()) {
    world_.mutant = options.mutant;
    MakeModel();
    MakePool();
  }

  ScenarioResult Run();

 private:
  NetworkOptions Network();
  void MakeModel();
  void MakePool();
  PoolStateOptions CoordinatorOptions();

  // True: `done` held before `bound` was over.
  bool RunUntil(Duration bound, const std::function<bool()>& done);
  bool AllComplete() const;
  void Faults();
  void Fault();
  void WorkerFault();
  void PathFault();
  void OperatorFault();
  void OtherFault();
  void Calm();
  void CheckCalm();

  // Undoes what was done to somebody after a while, or when faults stop.
  void Later(Duration delay, std::function<void()> undo);
  Duration Short() { return random_.Between(milliseconds(5), milliseconds(400)); }
  Duration Long() { return random_.Between(milliseconds(200), seconds(9)); }
  SimulatedWorker& AnyWorker() {
    return *workers_[static_cast<size_t>(random_.Below(static_cast<int>(workers_.size())))];
  }
  SimulatedRouter& AnyRouter() {
    return *routers_[static_cast<size_t>(random_.Below(static_cast<int>(routers_.size())))];
  }
  void TouchAll() {
    for (auto& worker : workers_) worker->process().Touch();
    for (auto& router : routers_) router->process().Touch();
  }

  const ScenarioOptions options_;
  Random random_;
  World world_;
  std::unique_ptr<SimulatedCoordinator> coordinator_;
  std::vector<std::unique_ptr<SimulatedWorker>> workers_;
  std::vector<std::unique_ptr<SimulatedRouter>> routers_;
  double replicas_ = 1;
  double verify_share_ = 0;
  bool tight_ = false;
  std::vector<std::shared_ptr<std::function<void()>>> undo_;
  std::string shape_;
  TimePoint calm_at_;
  Duration calm_took_{0};
};

NetworkOptions Scenario::Network() {
  NetworkOptions options;
  options.delay = random_.Between(microseconds(10), microseconds(300));
  options.jitter = random_.Between(microseconds(0), milliseconds(2));
  options.stray_chance = random_.Chance(0.5) ? 0.5 : 0;
  options.stray_port = kDataPort;
  options.user_timeout = random_.Between(seconds(1), seconds(8));
  return options;
}

void Scenario::MakeModel() {
  world_.model.digest = random_.Next() | 1;
  world_.model.first_moe_layer = random_.Below(2);
  world_.model.num_layers = world_.model.first_moe_layer + random_.Between(1, 3);
  world_.model.num_experts = random_.Between(4, 12);
  world_.model.hidden_size = kHidden;
  world_.model.name = "simulated";
}

PoolStateOptions Scenario::CoordinatorOptions() {
  PoolStateOptions options;
  options.model = world_.model;
  options.replicas = replicas_;
  options.expected_workers = random_.Chance(0.7) ? static_cast<int>(workers_.size()) : 0;
  options.join_patience = random_.Between(seconds(1), seconds(5));
  options.adopt_after = random_.Between(milliseconds(200), seconds(3));
  options.planner.move_bytes_per_second = random_.Chance(0.5) ? 0 : 64 * kExpertBytes;
  options.quarantine.first_stay = seconds(1);
  options.quarantine.max_stay = seconds(8);
  return options;
}

void Scenario::MakePool() {
  const int num_workers = random_.Between(2, 6);
  const int num_routers = random_.Between(1, 2);
  static constexpr double kReplicas[] = {1, 1, 1.5, 2, 2, 3};
  replicas_ = std::min<double>(kReplicas[random_.Below(6)], num_workers);
  const bool verifies = num_workers >= 3 && replicas_ >= 2 && random_.Chance(0.4);
  verify_share_ = verifies ? 1 : random_.Chance(0.3) ? 0.05 : 0;
  tight_ = random_.Chance(0.4);
  const int layers = world_.model.num_layers - world_.model.first_moe_layer;
  const double copies = replicas_ * layers * world_.model.num_experts;
  for (int i = 0; i < num_workers; ++i) {
    SimulatedWorkerOptions options;
    options.preferred_id = random_.Chance(0.5) ? i : -1;
    options.spare = i > 1 && i == num_workers - 1 && random_.Chance(0.15);
    if (tight_) {
      // Room for all when one worker is missing, and no more.
      options.memory_bytes =
          (static_cast<uint64_t>(1.1 * copies / std::max(1, num_workers - 2)) + 2) * kExpertBytes;
    }
    options.per_unit = random_.Between(microseconds(20), microseconds(200));
    options.disk.bytes_per_second =
        static_cast<double>(kExpertBytes) * random_.Between(50, 1000);
    options.lanes = random_.Between(1, 2);
    workers_.push_back(std::make_unique<SimulatedWorker>(world_, 10 + i, options));
  }
  for (int i = 0; i < num_routers; ++i) {
    SimulatedRouterOptions options;
    options.max_tokens = random_.Between(1, 8);
    options.top_k = random_.Between(1, 3);
    options.verify_share = verify_share_;
    options.pause = random_.Between(milliseconds(5), milliseconds(60));
    options.late_bound = options_.late_bound;
    options.link_frames = random_.Chance(0.2) ? 2 : 64;
    routers_.push_back(std::make_unique<SimulatedRouter>(world_, 100 + i, options));
  }
  coordinator_ = std::make_unique<SimulatedCoordinator>(world_, 1, CoordinatorOptions());
  shape_ = absl::StrFormat("%d workers%s, %d routers, %d layers of %d experts, replicas %.1f%s",
                           num_workers, tight_ ? " of little memory" : "", num_routers, layers,
                           world_.model.num_experts, replicas_,
                           verify_share_ == 0 ? "" : absl::StrFormat(", verify %.2f",
                                                                     verify_share_));
}

bool Scenario::RunUntil(Duration bound, const std::function<bool()>& done) {
  const TimePoint end = world_.now() + bound;
  while (world_.now() < end && world_.invariants.ok()) {
    if (done()) return true;
    world_.queue.RunUntil(std::min(end, world_.now() + milliseconds(20)));
  }
  return done();
}

bool Scenario::AllComplete() const {
  return std::all_of(routers_.begin(), routers_.end(), [](const auto& router) {
    return router->process().alive() && router->complete() && router->steps_done() > 0;
  });
}

void Scenario::Later(Duration delay, std::function<void()> undo) {
  auto shared = std::make_shared<std::function<void()>>(std::move(undo));
  undo_.push_back(shared);
  world_.queue.After(delay, [shared] {
    if (*shared) std::exchange(*shared, nullptr)();
  });
}

void Scenario::WorkerFault() {
  SimulatedWorker& worker = AnyWorker();
  const double dice = random_.Unit();
  if (dice < 0.35) {
    worker.Kill();
    Later(random_.Between(milliseconds(20), seconds(4)), [&worker] {
      if (!worker.process().alive()) worker.Start();
    });
  } else if (dice < 0.6) {
    if (!worker.process().alive()) return;
    world_.trace.Add(world_.now(), "worker freezes", {uint64_t(worker.process().host())});
    worker.process().Freeze();
    Later(random_.Chance(0.5) ? Short() : Long(), [this, &worker] {
      world_.trace.Add(world_.now(), "worker thaws", {uint64_t(worker.process().host())});
      worker.process().Thaw();
    });
  } else if (dice < 0.75) {
    worker.process().Touch();
    worker.SetSlow(random_.Between(2, 40));
    Later(Long(), [&worker] {
      worker.process().Touch();
      worker.SetSlow(1);
    });
  } else if (dice < 0.85) {
    worker.Stop();
    Later(random_.Between(milliseconds(500), seconds(8)), [&worker] {
      if (!worker.process().alive()) worker.Start();
    });
  } else if (dice < 0.92) {
    worker.process().Touch();
    worker.SetErrorChance(0.3);
    Later(Short(), [&worker] {
      worker.process().Touch();
      worker.SetErrorChance(0);
    });
  } else {
    worker.process().Touch();
    worker.disk_state().error_chance = random_.Chance(0.5) ? 0.5 : 0;
    worker.disk_state().slow = random_.Between(1, 20);
    Later(Long(), [&worker] {
      worker.process().Touch();
      worker.disk_state().error_chance = 0;
      worker.disk_state().slow = 1;
    });
  }
}

void Scenario::PathFault() {
  SimulatedWorker& worker = AnyWorker();
  SimulatedRouter& router = AnyRouter();
  Process* a = &worker.process();
  Process* b = &router.process();
  const double who = random_.Unit();
  if (who < 0.25) b = &coordinator_->process();
  if (who >= 0.25 && who < 0.35) {
    a = &router.process();
    b = &coordinator_->process();
  }
  if (random_.Chance(0.5)) std::swap(a, b);
  a->Touch();
  b->Touch();
  worker.process().Touch();
  router.process().Touch();
  const auto touch = [a, b, &worker, &router] {
    a->Touch();
    b->Touch();
    worker.process().Touch();
    router.process().Touch();
  };
  const double dice = random_.Unit();
  if (dice < 0.35) {
    for (const int port : {kDataPort, kWorkerSessionPort, kRouterSessionPort})
      world_.network.Break(*a, *b, port);
  } else if (dice < 0.8) {
    const int from = a->host();
    const int to = b->host();
    const bool both = random_.Chance(0.5);
    world_.trace.Add(world_.now(), "path blocked", {uint64_t(from), uint64_t(to), uint64_t(both)});
    world_.network.Block(from, to);
    if (both) world_.network.Block(to, from);
    Later(random_.Chance(0.5) ? Short() : Long(), [this, from, to, both, touch] {
      world_.trace.Add(world_.now(), "path open", {uint64_t(from), uint64_t(to)});
      touch();
      world_.network.Unblock(from, to);
      if (both) world_.network.Unblock(to, from);
    });
  } else {
    const int from = a->host();
    const int to = b->host();
    world_.network.SetSlow(from, to, random_.Between(milliseconds(1), milliseconds(60)));
    Later(Long(), [this, from, to, touch] {
      touch();
      world_.network.SetSlow(from, to, Duration(0));
    });
  }
}

void Scenario::OperatorFault() {
  const double dice = random_.Unit();
  if (dice < 0.5) {
    const WorkerId id(random_.Below(static_cast<int>(workers_.size())));
    coordinator_->Drain(id);
    Later(Long(), [this, id] { coordinator_->Undrain(id); });
  } else if (dice < 0.8) {
    static constexpr double kReplicas[] = {1, 1.3, 2, 2.5};
    coordinator_->SetReplicas(tight_ ? 1 : kReplicas[random_.Below(4)]);
    Later(Long(), [this] { coordinator_->SetReplicas(replicas_); });
  } else {
    coordinator_->Rebalance();
  }
}

void Scenario::OtherFault() {
  const double dice = random_.Unit();
  if (dice < 0.25) {
    coordinator_->Kill();
    TouchAll();
    Later(random_.Chance(0.5) ? Short() : Long(), [this] {
      TouchAll();
      if (!coordinator_->process().alive()) coordinator_->Start();
    });
  } else if (dice < 0.5) {
    // Nobody else is touched: a coordinator that slept must judge nobody.
    if (!coordinator_->process().alive()) return;
    world_.trace.Add(world_.now(), "coordinator freezes");
    coordinator_->process().Freeze();
    Later(random_.Chance(0.3) ? Short() : Long(), [this] {
      world_.trace.Add(world_.now(), "coordinator thaws");
      coordinator_->process().Thaw();
    });
  } else if (dice < 0.65) {
    SimulatedRouter& router = AnyRouter();
    router.Kill();
    Later(Long(), [&router] {
      if (!router.process().alive()) router.Start();
    });
  } else if (dice < 0.85) {
    SimulatedRouter& router = AnyRouter();
    if (!router.process().alive()) return;
    world_.trace.Add(world_.now(), "router freezes", {uint64_t(router.process().host())});
    router.process().Freeze();
    Later(Long(), [this, &router] {
      world_.trace.Add(world_.now(), "router thaws", {uint64_t(router.process().host())});
      router.process().Thaw();
    });
  } else if (verify_share_ == 1) {
    AnyWorker().CorruptAny(random_);
  }
}

void Scenario::Fault() {
  const double dice = random_.Unit();
  if (dice < 0.45) return WorkerFault();
  if (dice < 0.75) return PathFault();
  if (dice < 0.85) return OperatorFault();
  OtherFault();
}

void Scenario::Faults() {
  const TimePoint end = world_.now() + random_.Between(seconds(4), seconds(30));
  const Duration pace = random_.Between(milliseconds(40), milliseconds(1500));
  while (world_.now() < end && world_.invariants.ok()) {
    Fault();
    world_.queue.RunUntil(world_.now() + random_.Between(Duration(0), 2 * pace));
  }
}

void Scenario::Calm() {
  world_.trace.Add(world_.now(), "faults stop");
  // In the order in which they were done.
  for (const auto& undo : undo_) {
    if (*undo) std::exchange(*undo, nullptr)();
  }
  undo_.clear();
  world_.network.UnblockAll();
  TouchAll();
  if (!coordinator_->process().alive()) coordinator_->Start();
  coordinator_->UndrainAll();
  coordinator_->SetReplicas(replicas_);
  for (auto& router : routers_) {
    if (!router->process().alive()) router->Start();
  }
  calm_at_ = world_.now();
}

void Scenario::CheckCalm() {
  // Workers that were asked to stop leave; everybody starts again.
  const auto nobody_stops = [this] {
    return std::all_of(workers_.begin(), workers_.end(), [](const auto& worker) {
      return !worker->process().alive() || !worker->stopping();
    });
  };
  if (!RunUntil(kStopBound, nobody_stops) && world_.invariants.ok()) {
    world_.invariants.Violate("liveness", "a worker that was asked to stop does not");
  }
  for (auto& worker : workers_) {
    if (!worker->process().alive()) worker->Start();
  }
  std::vector<int64_t> steps;
  for (const auto& router : routers_) steps.push_back(router->steps_done());
  const auto well = [&] {
    for (size_t i = 0; i < routers_.size(); ++i) {
      if (!routers_[i]->complete() || routers_[i]->steps_done() < steps[i] + 5) return false;
    }
    const PoolState* state = coordinator_->state();
    if (state == nullptr || state->gathering() || state->roster().size() != workers_.size()) {
      return false;
    }
    return std::all_of(workers_.begin(), workers_.end(), [](const auto& worker) {
      return worker->quiet() && worker->num_corrupted() == 0;
    });
  };
  if (RunUntil(kCalmBound, well) || !world_.invariants.ok()) {
    calm_took_ = world_.now() - calm_at_;
    return;
  }
  std::string text;
  for (size_t i = 0; i < routers_.size(); ++i) {
    text += absl::StrFormat("router %d did %d steps since faults stopped: %s. ", i,
                            routers_[i]->steps_done() - steps[i], routers_[i]->Waits());
  }
  for (const auto& worker : workers_) {
    text += absl::StrFormat("worker on host %d: %d held, %s, %d wrong. ", worker->process().host(),
                            worker->num_held(), worker->quiet() ? "quiet" : "busy",
                            worker->num_corrupted());
  }
  world_.invariants.Violate("liveness", text + "coordinator: " + coordinator_->StatusText());
}

ScenarioResult Scenario::Run() {
  const TimePoint start = world_.now();
  world_.trace.Say(start, shape_);
  coordinator_->Start();
  for (auto& worker : workers_) worker->Start();
  for (auto& router : routers_) router->Start();
  const bool begun = RunUntil(kStartBound, [this] { return AllComplete(); });
  if (!begun && world_.invariants.ok()) {
    world_.invariants.Violate("liveness", "the pool does not begin to serve: " +
                                              routers_[0]->Waits() + " coordinator: " +
                                              coordinator_->StatusText());
  } else if (begun) {
    world_.queue.RunUntil(world_.now() + seconds(1));
    Faults();
    if (world_.invariants.ok()) Calm();
    if (world_.invariants.ok()) CheckCalm();
  }

  ScenarioResult result;
  result.seed = options_.seed;
  result.trace_hash = world_.trace.hash();
  result.events = world_.queue.events_run();
  for (const auto& router : routers_) {
    result.steps += router->steps_done();
    result.layers += router->layers_done();
    result.steps_given_up += router->steps_given_up();
    for (size_t cause = 1; cause < kNumAskCauses; ++cause)
      result.asked_again += router->statistics().pairs[cause];
  }
  result.simulated_seconds = std::chrono::duration<double>(world_.now() - start).count();
  result.calm_seconds = std::chrono::duration<double>(calm_took_).count();
  result.shape = shape_;
  result.violations = world_.invariants.violations();
  return result;
}

}  // namespace

ScenarioResult RunScenario(const ScenarioOptions& options) { return Scenario(options).Run(); }

}  // namespace sheaf::simulation
