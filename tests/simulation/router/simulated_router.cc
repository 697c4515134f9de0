#include "tests/simulation/router/simulated_router.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tests/simulation/router/router_life.h"

namespace sheaf::simulation {

SimulatedRouter::SimulatedRouter(World& world, int host, const SimulatedRouterOptions& options)
    : world_(world),
      options_(options),
      process_(world.queue, host, absl::StrFormat("router on host %d", host)),
      random_(world.random.Fork()) {
  world_.routers[host] = this;
}

SimulatedRouter::~SimulatedRouter() = default;

void SimulatedRouter::Start() {
  process_.Start();
  instance_ = InstanceId(random_.Next() | 1);
  PoolLinksOptions links;
  links.model = world_.model;
  links.router = instance_;
  links.seed = random_.Next();
  LayerMachineOptions machine;
  machine.verify_share = options_.verify_share;
  machine.seed = random_.Next();
  if (world_.mutant == Mutant::kNeverLate) {
    links.times.late_floor = links.times.late_unknown = std::chrono::hours(1);
  }
  life_ = std::make_unique<Life>(links, machine, this);
  life_->pair_counts.resize(
      static_cast<size_t>(world_.model.num_layers - world_.model.first_moe_layer) *
      static_cast<size_t>(world_.model.num_experts));
  life_->begin_at = world_.now();
  last_step_ = world_.now();
  world_.trace.Add(world_.now(), "router starts",
                   {static_cast<uint64_t>(process_.host()), instance_.value()});
  Session();
  ReportLoop();
  IdleLoop();
}

void SimulatedRouter::Kill() {
  if (!process_.alive()) return;
  world_.trace.Add(world_.now(), "router ends", {static_cast<uint64_t>(process_.host())});
  world_.network.Killed(process_);
  process_.Kill();
  life_ = nullptr;
}

bool SimulatedRouter::complete() const {
  return life_ != nullptr && life_->links.table().complete();
}

bool SimulatedRouter::Believes(LinkId link, const LayerExpert& pair) const {
  if (life_ == nullptr) return false;
  for (const auto& [worker, id] : life_->link_of) {
    if (id == link) return life_->links.table().Holds(worker, pair.layer, pair.expert);
  }
  return false;
}

std::string SimulatedRouter::Waits() const {
  if (life_ == nullptr) return "down";
  std::string text = absl::StrFormat(
      "phase %d layer %d, step %d, given up %d", static_cast<int>(life_->phase), life_->layer,
      life_->step, steps_given_up_);
  for (const WorkerLinkStatus& status : life_->links.Status()) {
    absl::StrAppend(&text, "; worker ", status.worker.value(), status.live ? " live" : " not live",
                    " owes ", status.owed_answers, " ", status.reason);
  }
  for (const LayerExpert& pair : life_->links.table().Orphans(8))
    absl::StrAppend(&text, "; nobody holds ", pair.layer.value(), ".", pair.expert.value());
  return text;
}

}  // namespace sheaf::simulation
