#include "tests/simulation/worker/simulated_worker.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "tests/simulation/worker/worker_life.h"

namespace sheaf::simulation {

SimulatedWorker::SimulatedWorker(World& world, int host, const SimulatedWorkerOptions& options)
    : world_(world),
      options_(options),
      process_(world.queue, host, absl::StrFormat("worker on host %d", host)),
      random_(world.random.Fork()) {
  world_.workers[host] = this;
}

SimulatedWorker::~SimulatedWorker() = default;

void SimulatedWorker::Start() {
  process_.Start();
  stopping_ = false;
  slow_ = 1;
  error_chance_ = 0;
  instance_ = InstanceId(random_.Next() | 1);
  for (uint8_t& byte : secret_) byte = static_cast<uint8_t>(random_.Next());
  HoldingPlanOptions plan_options;
  plan_options.num_layers = world_.model.num_layers;
  plan_options.num_experts = world_.model.num_experts;
  plan_options.memory_bytes = options_.memory_bytes;
  plan_options.expert_bytes = kExpertBytes;
  plan_options.expert_file_bytes = kExpertBytes;
  WorkerStateOptions state_options;
  state_options.coordinator = "simulated";
  state_options.preferred_id = options_.preferred_id;
  life_ = std::make_unique<Life>(plan_options, state_options, random_.Next(), world_.now(),
                                 world_.queue, process_, random_.Fork());
  life_->number = life_->plan.announced().number;
  life_->encoded = life_->plan.announced().Encode();
  world_.network.Listen(process_, kDataPort,
                        [this](const ChannelPtr& channel) { Accept(channel); });
  world_.trace.Add(world_.now(), "worker starts",
                   {static_cast<uint64_t>(process_.host()), instance_.value()});
  Tick();
}

void SimulatedWorker::Kill() {
  if (!process_.alive()) return;
  world_.trace.Add(world_.now(), "worker ends", {static_cast<uint64_t>(process_.host())});
  world_.network.Killed(process_);
  process_.Kill();
  life_ = nullptr;
}

void SimulatedWorker::Stop() {
  if (!process_.alive()) return;
  process_.Touch();
  stopping_ = true;
  process_.After(Duration(0), [this] {
    world_.trace.Add(world_.now(), "worker is asked to stop",
                     {static_cast<uint64_t>(process_.host())});
    life_->state.OnStop(world_.now());
    Tick();
  });
}

bool SimulatedWorker::Has(const LayerExpert& pair) const {
  return life_ != nullptr && life_->store.count(pair) != 0;
}
bool SimulatedWorker::leaves_unheard() const {
  return stopping_ && life_ != nullptr && !life_->state.member();
}
size_t SimulatedWorker::num_held() const { return life_ == nullptr ? 0 : life_->store.size(); }
bool SimulatedWorker::quiet() const { return life_ == nullptr || life_->plan.quiet(); }

bool SimulatedWorker::Corrupt(const LayerExpert& pair) {
  if (!Has(pair)) return false;
  Copy& copy = *life_->store[pair];
  if (!copy.corrupted) copy.weights ^= uint64_t{1} << random_.Below(64);
  copy.corrupted = true;
  world_.trace.Add(world_.now(), "a bit flips",
                   {static_cast<uint64_t>(process_.host()),
                    static_cast<uint64_t>(pair.layer.value()),
                    static_cast<uint64_t>(pair.expert.value())});
  return true;
}

void SimulatedWorker::CorruptAny(Random& random) {
  if (num_held() == 0) return;
  auto at = life_->store.begin();
  std::advance(at, random.Below(static_cast<int>(life_->store.size())));
  Corrupt(at->first);
}

int SimulatedWorker::num_corrupted() const {
  if (life_ == nullptr) return 0;
  return static_cast<int>(std::count_if(life_->store.begin(), life_->store.end(),
                                        [](const auto& e) { return e.second->corrupted; }));
}

}  // namespace sheaf::simulation
