// scale: what the control plane of a large pool costs, and what planning costs a router. 64
// workers, 4 routers, 92 layers (3 of them dense) of 120 experts, two holders each; simulated time
// for messages, a core's time for plans.

#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <vector>

#include "coordinator/placement_plan.h"
#include "exchange/layer/layer_machine.h"
#include "spdlog/spdlog.h"
#include "tests/simulation/simulated_coordinator.h"
#include "tests/simulation/router/simulated_router.h"
#include "tests/simulation/worker/simulated_worker.h"
#include "tests/simulation/world.h"

namespace sheaf::simulation {
namespace {

constexpr int kWorkers = 64;
constexpr int kRouters = 4;
constexpr int kLayers = 92;
constexpr int kDenseLayers = 3;
constexpr int kExperts = 120;
constexpr double kReplicas = 2;

// Of this thread on a core: others on this machine do not count.
struct Real {
  using time_point = std::chrono::nanoseconds;
  static time_point now() {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
  }
};
double Microseconds(std::chrono::nanoseconds d) {
  return std::chrono::duration<double, std::micro>(d).count();
}

class Pool {
 public:
  Pool() : world_(1, false, NetworkOptions{}) {
    world_.model = {7, kLayers, kDenseLayers, kExperts, kHidden, "large"};
    PoolStateOptions options;
    options.model = world_.model;
    options.replicas = kReplicas;
    options.expected_workers = kWorkers;
    coordinator_ = std::make_unique<SimulatedCoordinator>(world_, 1, options);
    for (int i = 0; i < kWorkers; ++i) {
      SimulatedWorkerOptions worker;
      worker.preferred_id = i;
      // An expert of 10 MB from a disk of 1 GB/s takes 10 ms.
      worker.disk.bytes_per_second = 100.0 * static_cast<double>(kExpertBytes);
      workers_.push_back(std::make_unique<SimulatedWorker>(world_, 10 + i, worker));
    }
    for (int i = 0; i < kRouters; ++i) {
      SimulatedRouterOptions router;
      router.max_tokens = 1;
      router.top_k = 8;
      router.pause = std::chrono::seconds(5);  // the data plane is not what is counted here
      routers_.push_back(std::make_unique<SimulatedRouter>(world_, 100 + i, router));
    }
    coordinator_->Start();
    for (auto& worker : workers_) worker->Start();
    for (auto& router : routers_) router->Start();
  }

  void Count(const char* what, Duration time) {
    const auto before = Figures();
    const Real::time_point begin = Real::now();
    world_.queue.RunUntil(world_.now() + time);
    const auto after = Figures();
    const double seconds = std::chrono::duration<double>(time).count();
    std::printf("%-44s %6.0f s: %8.1f messages/s, %9.1f KB/s (%.1f core s here)\n", what, seconds,
                static_cast<double>(after.first - before.first) / seconds,
                static_cast<double>(after.second - before.second) / seconds / 1e3,
                std::chrono::duration<double>(Real::now() - begin).count());
  }
  SimulatedWorker& worker(int i) { return *workers_[static_cast<size_t>(i)]; }
  bool complete() const {
    return std::all_of(routers_.begin(), routers_.end(),
                       [](const auto& router) { return router->complete(); });
  }
  void PrintState() const {
    std::printf("  every expert is held: %s; %lld plans\n", complete() ? "yes" : "no",
                static_cast<long long>(coordinator_->state()->counters().plans));
  }

 private:
  std::pair<uint64_t, uint64_t> Figures() const {
    const SimulatedNetwork& net = world_.network;
    return {net.messages(kWorkerSessionPort) + net.messages(kRouterSessionPort),
            net.bytes(kWorkerSessionPort) + net.bytes(kRouterSessionPort)};
  }

  World world_;
  std::unique_ptr<SimulatedCoordinator> coordinator_;
  std::vector<std::unique_ptr<SimulatedWorker>> workers_;
  std::vector<std::unique_ptr<SimulatedRouter>> routers_;
};

void ControlPlane() {
  std::printf("control plane, %d workers, %d routers, %d layers of %d experts, %.0f holders each\n",
              kWorkers, kRouters, kLayers, kExperts, kReplicas);
  Pool pool;
  pool.Count("  loading, from nothing", std::chrono::seconds(10));
  pool.PrintState();
  pool.Count("  nothing happens", std::chrono::seconds(60));
  pool.worker(7).Kill();
  pool.Count("  a worker is lost and others take its share", std::chrono::seconds(10));
  pool.PrintState();
  pool.worker(7).Start();
  pool.Count("  and comes back with nothing", std::chrono::seconds(10));
  pool.PrintState();
}

void Plans() {
  const ExpertGrid grid{kLayers, kDenseLayers, kExperts};
  PlanRequest request;
  request.grid = grid;
  request.expert_bytes = 10'000'000;
  request.replicas = kReplicas;
  for (int i = 0; i < kWorkers; ++i) {
    PlanWorker worker;
    worker.worker = WorkerId(i);
    request.workers.push_back(worker);
  }
  const auto time = [&](const char* what) {
    const Real::time_point begin = Real::now();
    PlacementPlan plan = PlanPlacement(request);
    std::printf("  %-42s %8.0f us, %lld moves\n", what, Microseconds(Real::now() - begin),
                static_cast<long long>(plan.moves));
    return plan;
  };
  std::printf("plans\n");
  const PlacementPlan fresh = time("fresh");
  for (size_t i = 0; i < request.workers.size(); ++i) {
    request.workers[i].held = &fresh.targets[i];
    request.workers[i].wanted = &fresh.targets[i];
  }
  time("again, nothing changed");
  request.workers[7].takes = false;
  time("one worker drains");
}

void Layers() {
  std::printf("a layer's planning in a router (Begin and its asks), %d workers\n", kWorkers);
  ExpertTable table(kLayers, kDenseLayers, kExperts);
  for (int w = 0; w < kWorkers; ++w) {
    Holdings holdings(kLayers, kExperts);
    for (int layer = kDenseLayers; layer < kLayers; ++layer) {
      for (int e = 0; e < kExperts; ++e) {
        const int first = e * kWorkers / kExperts;
        if (first == w || (first + kWorkers / 2) % kWorkers == w)
          holdings.Add(LayerId(layer), ExpertId(e));
      }
    }
    table.SetHoldings(WorkerId(w), holdings);
  }
  AnswerTimes times;
  LayerMachineOptions options;
  LayerMachine machine(table, times, options);
  Random random(3);
  for (const int tokens : {1, 8, 32, 512}) {
    const int rounds = tokens > 32 ? 200 : 5000;
    std::vector<int32_t> ids(static_cast<size_t>(tokens) * 8);
    std::vector<double> took;
    TimePoint now(std::chrono::hours(1));
    for (int round = 0; round < rounds; ++round) {
      for (int t = 0; t < tokens; ++t) {
        // Eight different ones, ascending.
        int32_t expert = random.Below(kExperts / 8);
        for (int k = 0; k < 8; ++k) {
          ids[static_cast<size_t>(t * 8 + k)] = expert;
          expert += random.Between(1, kExperts / 8);
        }
      }
      const LayerId layer(random.Between(kDenseLayers, kLayers - 1));
      std::vector<AskId> asks;
      asks.reserve(kWorkers);
      std::vector<WorkerId> workers;
      workers.reserve(kWorkers);
      const Real::time_point begin = Real::now();
      if (!machine.Begin({layer, tokens, 8, ids.data()}, now).ok()) return;
      Ask ask;
      while (machine.NextAsk(ask)) {
        machine.Sent(ask.id, now);
        asks.push_back(ask.id);
        workers.push_back(ask.worker);
      }
      took.push_back(Microseconds(Real::now() - begin));
      now += std::chrono::microseconds(300);
      for (size_t i = 0; i < asks.size(); ++i) machine.Combine(workers[i], asks[i], now);
      machine.End(now);
    }
    std::sort(took.begin(), took.end());
    std::printf("  %4d pairs: median %7.1f us, p99 %7.1f us\n", tokens * 8, took[took.size() / 2],
                took[took.size() * 99 / 100]);
  }
}

}  // namespace
}  // namespace sheaf::simulation

int main() {
  spdlog::set_level(spdlog::level::off);
  sheaf::simulation::Layers();
  sheaf::simulation::Plans();
  sheaf::simulation::ControlPlane();
  return 0;
}
