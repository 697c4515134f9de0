#include "tests/simulation/simulated_router.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tests/simulation/simulated_coordinator.h"
#include "tests/simulation/simulated_link.h"
#include "tests/simulation/simulated_worker.h"

namespace sheaf::simulation {
namespace {

constexpr Duration kIdleTurn = std::chrono::milliseconds(20);
constexpr Duration kLookAtAll = std::chrono::milliseconds(5);
constexpr Duration kConnectTimeout = std::chrono::seconds(2);
constexpr Duration kReportEvery = std::chrono::seconds(1);
constexpr Duration kRetryAfter = std::chrono::milliseconds(500);
constexpr Duration kMaxSessionBackOff = std::chrono::seconds(2);
// A worker is healthy when nothing was wrong with it for so long.
constexpr Duration kHealthyFor = std::chrono::seconds(1);

}  // namespace

struct SimulatedRouter::Life {
  Life(const PoolLinksOptions& links_options, const LayerMachineOptions& machine_options,
       LinkPoolObserver* observer)
      : links(links_options, observer), machine(links.table(), links.times(), machine_options) {}

  PoolLinks links;
  LayerMachine machine;
  std::map<WorkerId, LinkId> link_of;      // that live
  std::map<WorkerId, LinkId> made;         // handed to PoolLinks last
  std::map<WorkerId, InstanceId> instance_of;
  std::map<WorkerId, int> host_of;

  ChannelPtr session;
  Duration back_off = std::chrono::milliseconds(100);
  std::map<WorkerId, int64_t> failures_told;
  std::vector<v1::WrongAnswer> wrong;
  std::vector<uint32_t> pair_counts;

  // The step.
  enum class Phase { kPause, kLayer, kGivenUp } phase = Phase::kPause;
  TimePoint begin_at;  // of the next step, or of the next try
  uint64_t step = 0;
  int layer = 0;
  int num_tokens = 0;
  std::vector<uint64_t> tokens;
  std::vector<int32_t> expert_ids;
  std::vector<Pair> pairs;  // by slot
  std::map<int32_t, WorkerId> answered_by;
  TimePoint layer_begun;
  TimePoint look_at_all;
  std::vector<LayerExpert> orphans;
  std::vector<std::pair<LayerExpert, std::vector<WorkerId>>> holders_at_begin;
  uint64_t timer = 0;
  bool wake_soon = false;
  bool running = false;
};

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

// Control plane.

void SimulatedRouter::Session() {
  Life& life = *life_;
  life.session =
      world_.network.Connect(process_, world_.coordinator->process(), kRouterSessionPort);
  const auto again = [this] {
    Life& now = *life_;
    now.session = nullptr;
    process_.After(random_.Between(now.back_off / 2, now.back_off), [this] { Session(); });
    now.back_off = std::min(2 * now.back_off, kMaxSessionBackOff);
  };
  life.session->on_closed = [again](const std::string&) { again(); };
  life.session->on_message = [this, again](const MessagePtr& message) {
    if (const auto* to = AsProto<v1::ToRouter>(message)) {
      life_->back_off = std::chrono::milliseconds(100);
      if (to->has_view()) TakeView(to->view());
    } else if (dynamic_cast<const EndMessage*>(message.get()) != nullptr) {
      life_->session->Close();
      again();
    }
  };
  v1::FromRouter message;
  v1::RouterHello& hello = *message.mutable_hello();
  hello.set_protocol_version(kPoolProtocolVersion);
  *hello.mutable_model() = world_.coordinator->ModelMessage();
  hello.set_instance(instance_.value());
  hello.set_host(absl::StrFormat("host%d", process_.host()));
  hello.set_pid(process_.host());
  SendProto(*life.session, message);
}

void SimulatedRouter::TakeView(const v1::PoolView& view) {
  std::vector<WorkerEndpoint> endpoints;
  for (const v1::PoolMember& member : view.workers()) {
    WorkerEndpoint endpoint;
    endpoint.worker = WorkerId(member.worker_id());
    endpoint.instance = InstanceId(member.instance());
    endpoint.addresses.assign(member.addresses().begin(), member.addresses().end());
    std::copy(member.secret().begin(), member.secret().end(), endpoint.secret.begin());
    life_->instance_of[endpoint.worker] = endpoint.instance;
    int host = 0;
    if (absl::SimpleAtoi(member.addresses(0).substr(4), &host)) {
      life_->host_of[endpoint.worker] = host;
    }
    endpoints.push_back(std::move(endpoint));
  }
  life_->links.SetWorkers(std::move(endpoints), world_.now());
  Wake();
}

void SimulatedRouter::ReportLoop() {
  Report();
  process_.After(kReportEvery, [this] { ReportLoop(); });
}

void SimulatedRouter::Report() {
  Life& life = *life_;
  if (life.session == nullptr) return;
  v1::FromRouter message;
  v1::RouterReport& report = *message.mutable_report();
  for (uint32_t& count : life.pair_counts) report.add_pairs(std::exchange(count, 0));
  for (const WorkerLinkStatus& status : life.links.Status()) {
    v1::LinkReport& link = *report.add_links();
    link.set_worker_id(status.worker.value());
    link.set_instance(status.instance.value());
    link.set_live(status.live);
    int64_t& told = life.failures_told[status.worker];
    link.set_failures(static_cast<int32_t>(status.failures - told));
    told = status.failures;
    link.set_reason(status.reason);
    link.set_seconds_per_unit(status.seconds_per_unit);
  }
  if (life.phase == Life::Phase::kGivenUp) {
    for (const LayerExpert& pair : life.orphans) {
      if (!life.links.table().HoldersOf(pair.layer, pair.expert).empty()) continue;
      v1::ExpertRange& range = *report.add_orphans();
      range.set_layer(pair.layer.value());
      range.set_begin(pair.expert.value());
      range.set_end(pair.expert.value() + 1);
    }
  }
  for (const v1::WrongAnswer& wrong : life.wrong) *report.add_wrong_answers() = wrong;
  life.wrong.clear();
  SendProto(*life.session, message);
}

// Links.

void SimulatedRouter::StartConnect(const PoolLinks::ConnectJob& job) {
  int host = -1;
  if (!job.addresses.empty()) (void)absl::SimpleAtoi(job.addresses[0].substr(4), &host);
  const auto target = world_.workers.find(host);
  const WorkerId worker = job.worker;
  const LinkId link = job.hello.link;
  if (target == world_.workers.end()) {
    return life_->links.Connected(worker, link, absl::UnavailableError("no such host"),
                                  world_.now());
  }
  const ChannelPtr channel =
      world_.network.Connect(process_, target->second->process(), kDataPort);
  auto over = std::make_shared<bool>(false);
  const auto fail = [this, worker, link, channel, over](const absl::Status& why) {
    if (std::exchange(*over, true)) return;
    channel->Close();
    life_->links.Connected(worker, link, why, world_.now());
    Wake();
  };
  channel->on_closed = [fail](const std::string& why) { fail(absl::UnavailableError(why)); };
  channel->on_message = [this, fail, over, worker, link, channel](const MessagePtr& message) {
    const auto* bytes = dynamic_cast<const HelloAnswerMessage*>(message.get());
    if (bytes == nullptr || *over) return;
    const absl::StatusOr<HelloVerdict> verdict = DecodeHelloAnswer(bytes->bytes);
    if (!verdict.ok()) return fail(verdict.status());
    if (const absl::Status status = StatusOf(*verdict); !status.ok()) return fail(status);
    *over = true;
    // The handlers that are running now are replaced by the link's own.
    const ChannelPtr end = channel;
    SimulatedRouter* self = this;
    const WorkerId id = worker;
    const LinkId made = link;
    self->life_->made[id] = made;
    auto frames = std::make_unique<SimulatedFrameLink>(
        self->world_, end, made, self->options_.link_frames, [self] { self->Wake(); });
    self->life_->links.Connected(id, made, std::move(frames), self->world_.now());
    self->Wake();
  };
  process_.After(kConnectTimeout,
                 [fail] { fail(absl::UnavailableError("no answer to the hello")); });
  auto hello = std::make_shared<HelloMessage>();
  hello->bytes = EncodeHello(job.hello);
  channel->Send(std::move(hello), kHelloBytes);
}

void SimulatedRouter::OnLinkUp(WorkerId worker, const std::string&) {
  life_->link_of[worker] = life_->made[worker];
  world_.trace.Add(world_.now(), "link up",
                   {static_cast<uint64_t>(process_.host()), static_cast<uint64_t>(worker.value())});
}

void SimulatedRouter::OnLinkDown(WorkerId worker, const absl::Status& why) {
  life_->link_of.erase(worker);
  world_.trace.Add(world_.now(), "link down",
                   {static_cast<uint64_t>(process_.host()), static_cast<uint64_t>(worker.value())});
  world_.trace.Say(world_.now(), std::string(why.message()));
  if (absl::IsInvalidArgument(why)) {
    world_.invariants.Violate(
        "wire", absl::StrFormat("router on host %d, worker %d: %s", process_.host(),
                                worker.value(), std::string(why.message())));
  }
}

void SimulatedRouter::Turn(TimePoint now) {
  life_->links.Judge(now);
  PoolLinks::ConnectJob job;
  while (life_->links.NextConnect(now, job)) StartConnect(job);
}

void SimulatedRouter::IdleLoop() {
  Wake();
  process_.After(kIdleTurn, [this] { IdleLoop(); });
}

void SimulatedRouter::Wake() {
  if (life_->wake_soon) return;
  life_->wake_soon = true;
  process_.After(Duration(0), [this] {
    life_->wake_soon = false;
    Run();
  });
}

// Steps.

void SimulatedRouter::BeginStep() {
  Life& life = *life_;
  ++life.step;
  life.layer = world_.model.first_moe_layer;
  life.num_tokens = random_.Between(1, options_.max_tokens);
  life.tokens.clear();
  for (int t = 0; t < life.num_tokens; ++t) life.tokens.push_back(random_.Next());
  BeginLayer();
}

void SimulatedRouter::BeginLayer() {
  Life& life = *life_;
  const TimePoint now = world_.now();
  life.phase = Life::Phase::kLayer;
  PoolEvent event;
  while (life.links.Next(now, true, event)) Take(event, now);
  life.links.Release();
  Turn(now);
  while (life.links.Next(now, false, event)) Take(event, now);
  life.links.Release();
  CheckOwed();

  // A step that is run again has the same routes.
  Random routes(life.tokens.front() ^ static_cast<uint64_t>(life.layer));
  const int num_experts = world_.model.num_experts;
  life.expert_ids.clear();
  for (int t = 0; t < life.num_tokens; ++t) {
    std::vector<int32_t> row;
    while (static_cast<int>(row.size()) < options_.top_k) {
      // Some experts are hotter than others.
      const int32_t expert = std::min(routes.Below(num_experts), routes.Below(num_experts));
      if (std::find(row.begin(), row.end(), expert) == row.end()) row.push_back(expert);
    }
    std::sort(row.begin(), row.end());
    life.expert_ids.insert(life.expert_ids.end(), row.begin(), row.end());
  }
  life.pairs.assign(life.expert_ids.size(), Pair{});
  life.answered_by.clear();
  life.layer_begun = now;
  life.holders_at_begin.clear();
  std::vector<int32_t> needed = life.expert_ids;
  std::sort(needed.begin(), needed.end());
  needed.erase(std::unique(needed.begin(), needed.end()), needed.end());
  for (const int32_t expert : needed) {
    const LayerExpert pair{LayerId(life.layer), ExpertId(expert)};
    const auto holders = life.links.table().HoldersOf(pair.layer, pair.expert);
    life.holders_at_begin.push_back({pair, {holders.begin(), holders.end()}});
  }
  for (const int32_t expert : life.expert_ids) {
    ++life.pair_counts[static_cast<size_t>(life.layer - world_.model.first_moe_layer) *
                           static_cast<size_t>(num_experts) +
                       static_cast<size_t>(expert)];
  }
  const absl::Status begun = life.machine.Begin(
      {LayerId(life.layer), life.num_tokens, options_.top_k, life.expert_ids.data()}, now);
  if (!begun.ok()) {
    world_.invariants.Violate("layer", std::string(begun.message()));
    return;
  }
  life.look_at_all = now + kLookAtAll;
  SendAsks(now);
}

void SimulatedRouter::Run() {
  Life& life = *life_;
  if (life.running) return;
  life.running = true;
  const TimePoint now = world_.now();
  for (;;) {
    if (life.phase != Life::Phase::kLayer) {
      life.links.Idle(now);
      PoolLinks::ConnectJob job;
      while (life.links.NextConnect(now, job)) StartConnect(job);
      const bool held = std::all_of(
          life.orphans.begin(), life.orphans.end(), [&](const LayerExpert& pair) {
            return !life.links.table().HoldersOf(pair.layer, pair.expert).empty();
          });
      if (life.phase == Life::Phase::kGivenUp && (held || now >= life.begin_at)) {
        // The sequences keep their tokens; the whole step is computed again.
        life.layer = world_.model.first_moe_layer;
        life.orphans.clear();
        BeginLayer();
        continue;
      }
      if (life.phase == Life::Phase::kPause && now >= life.begin_at && complete()) {
        BeginStep();
        continue;
      }
      break;
    }
    SendAsks(now);
    if (life.machine.done()) {
      FinishLayer(now);
      continue;
    }
    if (!life.machine.given_up().ok()) {
      GiveUp(now);
      break;
    }
    const bool all = now >= life.look_at_all;
    bool news = false;
    PoolEvent event;
    while (!life.machine.done() && life.links.Next(now, all, event)) {
      Take(event, now);
      SendAsks(now);
      news = true;
    }
    if (news) continue;
    if (all) {
      Turn(now);
      life.look_at_all = now + kLookAtAll;
    }
    life.machine.Tick(now);
    SendAsks(now);
    if (!life.machine.given_up().ok() || life.machine.done()) continue;
    const TimePoint wake = std::max(std::min(life.machine.WakeAt(), life.look_at_all),
                                    now + std::chrono::microseconds(1));
    const uint64_t timer = ++life.timer;
    process_.At(wake, [this, timer] {
      if (timer == life_->timer) Run();
    });
    break;
  }
  life.running = false;
}

void SimulatedRouter::FinishLayer(TimePoint now) {
  Life& life = *life_;
  CheckLayer(now);
  life.machine.End(now);
  if (world_.mutant == Mutant::kForgetOwed) {
    for (const auto& [worker, link] : life.link_of)
      life.machine.LinkLost(worker, "forgotten", now);
  }
  life.links.Release();
  ++layers_done_;
  longest_layer_ = std::max(longest_layer_, now - life.layer_begun);
  const LayerStatistics statistics = life.machine.TakeStatistics();
  for (size_t i = 0; i < kNumAskCauses; ++i) statistics_.pairs[i] += statistics.pairs[i];
  statistics_.hedges_won += statistics.hedges_won;
  statistics_.hedges_lost += statistics.hedges_lost;
  statistics_.late_answers += statistics.late_answers;
  statistics_.given_up += statistics.given_up;
  if (++life.layer < world_.model.num_layers) return BeginLayer();
  ++steps_done_;
  last_step_ = now;
  world_.trace.Add(now, "step", {static_cast<uint64_t>(process_.host()), life.step});
  life.phase = Life::Phase::kPause;
  life.begin_at = now + random_.Between(options_.pause / 2, options_.pause * 3 / 2);
  process_.At(life.begin_at, [this] { Wake(); });
}

void SimulatedRouter::GiveUp(TimePoint now) {
  Life& life = *life_;
  ++steps_given_up_;
  world_.trace.Add(now, "gives up",
                   {static_cast<uint64_t>(process_.host()), static_cast<uint64_t>(life.layer)});
  world_.trace.Say(now, std::string(life.machine.given_up().message()));
  life.orphans.clear();
  for (const ExpertId expert : life.machine.Orphans())
    life.orphans.push_back({LayerId(life.layer), expert});
  CheckLate(now);
  life.machine.End(now);
  life.links.Release();
  life.phase = Life::Phase::kGivenUp;
  life.begin_at = now + kRetryAfter;
  Report();
}

void SimulatedRouter::SendAsks(TimePoint now) {
  Ask ask;
  while (life_->machine.NextAsk(ask)) SendAsk(ask, now);
}

void SimulatedRouter::SendAsk(const Ask& ask, TimePoint now) {
  Life& life = *life_;
  const WorkerPlan& plan = *ask.plan;
  FrameHeader header;
  header.kind = FrameKind::kDispatch;
  header.element = FrameElement::kInt16Groups;
  header.answer = FrameElement::kFloat32;
  header.step = StepId(life.step);
  header.layer = LayerId(life.layer);
  header.hidden = kHidden;
  header.tokens = static_cast<uint32_t>(plan.token_rows.size());
  header.pairs = static_cast<uint32_t>(plan.num_pairs());
  header.experts = static_cast<uint32_t>(plan.experts.size());
  header.payload_bytes = plan.experts.size() * 2 * sizeof(int32_t) +
                         static_cast<size_t>(plan.num_pairs()) * sizeof(uint64_t);
  const absl::StatusOr<std::span<uint8_t>> memory =
      life.links.Reserve(ask.worker, header.payload_bytes, now);
  absl::Status sent = memory.status();
  if (sent.ok()) {
    uint8_t* out = memory->data();
    for (const ExpertRun& run : plan.experts) {
      const int32_t numbers[2] = {run.expert, run.num_rows};
      std::memcpy(out, numbers, sizeof(numbers));
      out += sizeof(numbers);
    }
    for (const int32_t row : plan.rows) {
      const uint64_t token =
          life.tokens[static_cast<size_t>(plan.token_rows[static_cast<size_t>(row)])];
      std::memcpy(out, &token, sizeof(token));
      out += sizeof(token);
    }
    const double work = WorkOf(static_cast<int>(plan.experts.size()), plan.num_pairs());
    sent = life.links.Send(ask.worker, ask.id, header,
                           life.links.times().Expected(ask.worker, work), now);
    if (sent.ok()) {
      world_.trace.Add(now, "asks",
                       {static_cast<uint64_t>(process_.host()),
                        static_cast<uint64_t>(ask.worker.value()), ask.id,
                        static_cast<uint64_t>(ask.cause), static_cast<uint64_t>(life.layer)});
      return life.machine.Sent(ask.id, now);
    }
  }
  if (absl::IsResourceExhausted(sent)) life.machine.NotSent(ask.id, now);
}

void SimulatedRouter::Take(const PoolEvent& event, TimePoint now) {
  Life& life = *life_;
  switch (event.kind) {
    case PoolEvent::Kind::kLinkLost:
      if (world_.mutant == Mutant::kKeepLostLink) return;
      life.machine.LinkLost(event.worker, event.why, now);
      return;
    case PoolEvent::Kind::kHoldings:
      life.machine.TableChanged(event.worker, now);
      return;
    case PoolEvent::Kind::kAnswer:
      break;
  }
  switch (event.frame.header.kind) {
    case FrameKind::kCombine:
      return TakeCombine(event, now);
    case FrameKind::kNotHeld: {
      std::vector<int32_t> experts(event.frame.payload.size() / sizeof(int32_t));
      if (!experts.empty())
        std::memcpy(experts.data(), event.frame.payload.data(), event.frame.payload.size());
      return life.machine.NotHeld(event.worker, event.ask, experts, now);
    }
    default:
      if (world_.mutant == Mutant::kErrorCounts) return TakeCombine(event, now);
      return life.machine.Error(
          event.worker, event.ask,
          std::string(event.frame.payload.begin(), event.frame.payload.end()), now);
  }
}

void SimulatedRouter::TakeCombine(const PoolEvent& event, TimePoint now) {
  Life& life = *life_;
  const auto key = std::pair{event.dispatch.link.value(), event.dispatch.sequence};
  const auto computed = world_.ledger.find(key);
  const Arrival arrival =
      life.machine.Combine(event.worker, event.ask, now, event.taken_late);
  if (arrival.plan == nullptr) {
    if (computed != world_.ledger.end()) world_.ledger.erase(computed);
    return;
  }
  const auto violate = [&](const char* text) {
    world_.invariants.Violate(
        "answers", absl::StrFormat("router on host %d, step %d layer %d, worker %d: %s",
                                   process_.host(), life.step, life.layer, event.worker.value(),
                                   text));
  };
  const WorkerPlan& plan = *arrival.plan;
  if (event.taken_late) violate("an answer without bytes counts");
  if (computed == world_.ledger.end()) violate("nobody computed this answer");
  if (event.frame.payload.size() != static_cast<size_t>(plan.num_pairs()) * sizeof(uint64_t) &&
      world_.mutant != Mutant::kErrorCounts) {
    return violate("the answer does not fit its ask");
  }
  size_t pair = 0;
  for (size_t i = 0; i < plan.experts.size(); ++i) {
    const ExpertRun& run = plan.experts[i];
    bool corrupted = false;
    if (computed != world_.ledger.end()) {
      const Computed& truth = computed->second;
      if (std::find(truth.experts.begin(), truth.experts.end(), run.expert) ==
          truth.experts.end()) {
        violate("it did not compute that expert");
      }
      corrupted = std::find(truth.corrupted.begin(), truth.corrupted.end(), run.expert) !=
                  truth.corrupted.end();
    }
    for (int32_t row = 0; row < run.num_rows; ++row, ++pair) {
      const auto slot = static_cast<size_t>(plan.slots[pair]);
      uint64_t value = 0;
      if (event.frame.payload.size() >= (pair + 1) * sizeof(value))
        std::memcpy(&value, event.frame.payload.data() + pair * sizeof(value), sizeof(value));
      if (!arrival.fresh[i] && world_.mutant != Mutant::kCountTwice) {
        Compare(event.worker, ExpertId(run.expert), slot, value);
        continue;
      }
      Pair& answer = life.pairs[slot];
      ++answer.answers;
      answer.value = value;
      answer.corrupted = corrupted;
      life.answered_by[run.expert] = event.worker;
    }
  }
  if (computed != world_.ledger.end()) world_.ledger.erase(computed);
}

void SimulatedRouter::Compare(WorkerId worker, ExpertId expert, size_t slot, uint64_t value) {
  Life& life = *life_;
  Pair& answer = life.pairs[slot];
  if (answer.value == value || world_.mutant == Mutant::kIgnoreDifferences) return;
  // The referee: the expert itself, from disk.
  const uint64_t right =
      World::Answer(world_.Weights(LayerId(life.layer), expert),
                    life.tokens[slot / static_cast<size_t>(options_.top_k)]);
  const WorkerId wrong = value == right ? life.answered_by[expert.value()] : worker;
  answer.value = right;
  world_.trace.Add(world_.now(), "differs",
                   {static_cast<uint64_t>(process_.host()), static_cast<uint64_t>(life.layer),
                    static_cast<uint64_t>(expert.value()), static_cast<uint64_t>(wrong.value())});
  for (const v1::WrongAnswer& told : life.wrong) {
    if (told.worker_id() == wrong.value() && told.layer() == life.layer &&
        told.expert() == expert.value()) {
      return;
    }
  }
  v1::WrongAnswer report;
  report.set_worker_id(wrong.value());
  report.set_instance(life.instance_of[wrong].value());
  report.set_layer(life.layer);
  report.set_expert(expert.value());
  life.wrong.push_back(report);
  process_.After(Duration(0), [this] { Report(); });
}

// What must hold.

void SimulatedRouter::CheckOwed() {
  for (const WorkerLinkStatus& status : life_->links.Status()) {
    const int believed = life_->machine.owed_asks(status.worker);
    if (believed == status.owed_answers) continue;
    world_.invariants.Violate(
        "links", absl::StrFormat("router on host %d: worker %d owes %d answers, the layer believes "
                                 "%d",
                                 process_.host(), status.worker.value(), status.owed_answers,
                                 believed));
  }
}

void SimulatedRouter::CheckLayer(TimePoint now) {
  Life& life = *life_;
  for (size_t slot = 0; slot < life.pairs.size(); ++slot) {
    const Pair& pair = life.pairs[slot];
    const ExpertId expert(life.expert_ids[slot]);
    const uint64_t token = life.tokens[slot / static_cast<size_t>(options_.top_k)];
    const uint64_t right = World::Answer(world_.Weights(LayerId(life.layer), expert), token);
    if (pair.answers == 1 && (pair.value == right || pair.corrupted)) continue;
    world_.invariants.Violate(
        "answers",
        absl::StrFormat("router on host %d, step %d layer %d slot %d expert %d: %s",
                        process_.host(), life.step, life.layer, slot, expert.value(),
                        pair.answers != 1 ? absl::StrFormat("%d answers", pair.answers)
                                          : "other bytes than the reference"));
  }
  CheckLate(now);
}

bool SimulatedRouter::Healthy(WorkerId worker, TimePoint since) const {
  const auto host = life_->host_of.find(worker);
  if (host == life_->host_of.end()) return false;
  SimulatedWorker& there = *world_.workers.at(host->second);
  return there.process().alive() && !there.process().frozen() &&
         there.process().touched_at() < since &&
         world_.network.Open(there.process(), process_) && life_->link_of.count(worker) != 0;
}

void SimulatedRouter::CheckLate(TimePoint now) {
  Life& life = *life_;
  if (now - life.layer_begun <= options_.late_bound) return;
  const TimePoint since = life.layer_begun - kHealthyFor;
  if (process_.touched_at() >= since) return;
  for (const auto& [pair, holders] : life.holders_at_begin) {
    const bool healthy = std::any_of(holders.begin(), holders.end(), [&](WorkerId worker) {
      return Healthy(worker, since) &&
             life.links.table().Holds(worker, pair.layer, pair.expert);
    });
    if (!healthy) return;
  }
  world_.invariants.Violate(
      "lateness",
      absl::StrFormat("router on host %d: layer %d took %d ms although healthy workers hold all "
                      "that it needs",
                      process_.host(), life.layer,
                      std::chrono::duration_cast<std::chrono::milliseconds>(now - life.layer_begun)
                          .count()));
}

}  // namespace sheaf::simulation
