#include "tests/simulation/simulated_worker.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"
#include "tests/simulation/simulated_coordinator.h"
#include "tests/simulation/simulated_router.h"

namespace sheaf::simulation {

struct SimulatedWorker::Life {
  Life(const HoldingPlanOptions& plan_options, const WorkerStateOptions& state_options,
       uint64_t seed, TimePoint now, EventQueue& queue, Process& process, Random random)
      : plan(plan_options), state(state_options, seed, now), disk(queue, process, random) {}

  HoldingPlan plan;
  WorkerState state;
  SimulatedDisk disk;

  std::map<LayerExpert, std::shared_ptr<Copy>> store;
  std::vector<std::shared_ptr<Copy>> going;
  int loading = 0;
  uint64_t loaded_bytes = 0;
  bool told_quiet = true;
  uint64_t load_timer = 0;

  std::vector<std::shared_ptr<Link>> links;
  size_t next_link = 0;
  bool computing = false;
  std::string encoded;
  uint64_t number = 0;  // of it
  uint64_t told_seen = 0;
  std::map<LayerExpert, TimePoint> hidden_at;  // announced as gone

  ChannelPtr session;
  uint64_t told_holdings = 0;
  uint64_t tick_timer = 0;
};

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

// Links.

void SimulatedWorker::Accept(const ChannelPtr& channel) {
  channel->on_message = [this, weak = std::weak_ptr(channel)](const MessagePtr& message) {
    if (const ChannelPtr end = weak.lock()) TakeHello(end, message);
  };
}

void SimulatedWorker::TakeHello(const ChannelPtr& channel, const MessagePtr& message) {
  const auto* bytes = dynamic_cast<const HelloMessage*>(message.get());
  if (bytes == nullptr) return;  // a stray; the real listener closes such a connection
  const absl::StatusOr<Hello> hello = DecodeHello(bytes->bytes);
  if (!hello.ok()) return channel->Close();
  const HelloVerdict verdict =
      CheckHello(*hello, LinkIdentity{world_.model.digest, instance_, secret_});
  auto answer = std::make_shared<HelloAnswerMessage>();
  answer->bytes = EncodeHelloAnswer(verdict);
  channel->Send(std::move(answer), kHelloAnswerBytes);
  if (verdict != HelloVerdict::kWelcome) return channel->Close();

  for (const auto& old : std::vector(life_->links)) {
    if (old->router == hello->router) {
      old->channel->Close();
      DropLink(old);
    }
  }
  auto link = std::make_shared<Link>();
  link->channel = channel;
  link->id = hello->link;
  link->router = hello->router;
  channel->on_message = [this, link](const MessagePtr& frame) { TakeFrame(link, frame); };
  channel->on_closed = [this, link](const std::string&) { DropLink(link); };
  TellHoldings(*link);
  link->seen = life_->number;
  life_->links.push_back(link);
  LinksChanged();
}

void SimulatedWorker::DropLink(const std::shared_ptr<Link>& link) {
  std::erase(life_->links, link);
  LinksChanged();
}

void SimulatedWorker::LinksChanged() {
  life_->state.OnLinks(static_cast<int>(life_->links.size()));
  TellSeen();
  TickSoon();
}

void SimulatedWorker::TellHoldings(Link& link) {
  FrameHeader header;
  header.kind = FrameKind::kHoldings;
  header.element = FrameElement::kBitmap;
  header.link = link.id;
  header.sequence = life_->number;
  header.model = static_cast<uint32_t>(world_.model.digest);
  header.payload_bytes = life_->encoded.size();
  link.told = life_->number;
  SendFrame(*link.channel, header,
            std::vector<uint8_t>(life_->encoded.begin(), life_->encoded.end()));
}

void SimulatedWorker::TellSeen() {
  uint64_t seen = life_->number;
  for (const auto& link : life_->links) seen = std::min(seen, link->seen);
  if (seen <= life_->told_seen) return;
  life_->told_seen = seen;
  life_->plan.Seen(seen);
  LoadSoon();
}

void SimulatedWorker::TakeFrame(const std::shared_ptr<Link>& link, const MessagePtr& message) {
  auto frame = std::dynamic_pointer_cast<const FrameMessage>(message);
  if (frame == nullptr) return;
  const absl::StatusOr<FrameHeader> header = DecodeFrameHeader(frame->header);
  if (!header.ok()) {
    world_.invariants.Violate("wire", std::string(header.status().message()));
    return;
  }
  if (header->link != link->id && world_.mutant != Mutant::kSkipLinkCheck) return;
  if (header->kind == FrameKind::kHoldingsSeen) {
    if (header->sequence > link->told) {
      link->channel->Close();
      return DropLink(link);
    }
    link->seen = std::max(link->seen, header->sequence);
    return TellSeen();
  }
  if (header->kind != FrameKind::kDispatch) {
    link->channel->Close();
    return DropLink(link);
  }
  link->queue.push_back(std::move(frame));
  if (!life_->computing) Serve();
}

void SimulatedWorker::Serve() {
  FreeWhatNobodyReads();
  const size_t num_links = life_->links.size();
  for (size_t i = 0; i < num_links; ++i) {
    const std::shared_ptr<Link> link = life_->links[(life_->next_link + i) % num_links];
    if (link->queue.empty()) continue;
    life_->next_link = (life_->next_link + i + 1) % num_links;
    const auto dispatch = std::move(link->queue.front());
    link->queue.pop_front();
    const FrameHeader header = *DecodeFrameHeader(dispatch->header);
    // What it computes with stays alive until it is done.
    std::vector<std::pair<int32_t, std::shared_ptr<Copy>>> copies;
    bool all = true;
    for (uint32_t e = 0; e < header.experts; ++e) {
      int32_t run[2];
      std::memcpy(run, dispatch->payload.data() + e * sizeof(run), sizeof(run));
      const auto held = life_->store.find({header.layer, ExpertId(run[0])});
      if (held != life_->store.end()) copies.emplace_back(run[0], held->second);
      all = all && held != life_->store.end();
    }
    const double units = all ? static_cast<double>(header.experts) + 0.125 * header.pairs : 0;
    const auto takes = std::chrono::duration_cast<Duration>(options_.per_unit * units * slow_) +
                       std::chrono::microseconds(10);
    life_->computing = true;
    process_.After(takes, [this, link, dispatch, copies = std::move(copies)]() mutable {
      life_->computing = false;
      Answer(link, *dispatch, copies);
      copies.clear();
      FreeWhatNobodyReads();
      if (!life_->computing) Serve();
    });
    return;
  }
}

void SimulatedWorker::Answer(const std::shared_ptr<Link>& link, const FrameMessage& dispatch,
                             const std::vector<std::pair<int32_t, std::shared_ptr<Copy>>>& copies) {
  const FrameHeader header = *DecodeFrameHeader(dispatch.header);
  if (!link->channel->open()) return;
  if (copies.size() < header.experts) {
    std::vector<uint8_t> missing;
    uint32_t count = 0;
    for (uint32_t e = 0; e < header.experts; ++e) {
      int32_t expert;
      std::memcpy(&expert, dispatch.payload.data() + e * 2 * sizeof(int32_t), sizeof(expert));
      const bool here = std::any_of(copies.begin(), copies.end(),
                                    [&](const auto& copy) { return copy.first == expert; });
      if (here) continue;
      ++count;
      const auto* bytes = reinterpret_cast<const uint8_t*>(&expert);
      missing.insert(missing.end(), bytes, bytes + sizeof(expert));
    }
    world_.trace.Add(world_.now(), "not held",
                     {static_cast<uint64_t>(process_.host()), header.sequence, count});
    return SendFrame(*link->channel, NotHeldHeaderFor(header, count), std::move(missing));
  }
  if (random_.Chance(error_chance_)) {
    const std::string text = "it had an accident";
    return SendFrame(*link->channel, ErrorHeaderFor(header, text.size()),
                     std::vector<uint8_t>(text.begin(), text.end()));
  }
  Computed& computed = world_.ledger[{header.link.value(), header.sequence}];
  computed = {process_.host(), process_.life(), {}, {}};
  std::vector<uint8_t> combine;
  combine.reserve(header.pairs * sizeof(uint64_t));
  size_t at = header.experts * 2 * sizeof(int32_t);
  for (uint32_t e = 0; e < header.experts; ++e) {
    int32_t run[2];
    std::memcpy(run, dispatch.payload.data() + e * sizeof(run), sizeof(run));
    computed.experts.push_back(run[0]);
    if (copies[e].second->corrupted) computed.corrupted.push_back(run[0]);
    for (int32_t row = 0; row < run[1]; ++row, at += sizeof(uint64_t)) {
      uint64_t token;
      std::memcpy(&token, dispatch.payload.data() + at, sizeof(token));
      const uint64_t answer = World::Answer(copies[e].second->weights, token);
      const auto* bytes = reinterpret_cast<const uint8_t*>(&answer);
      combine.insert(combine.end(), bytes, bytes + sizeof(answer));
    }
  }
  SendFrame(*link->channel, CombineHeaderFor(header), std::move(combine));
}

// Holdings.

// Threads of the real worker tell each other through queues.
void SimulatedWorker::LoadSoon() {
  process_.After(Duration(0), [this] { Load(); });
}
void SimulatedWorker::TickSoon() {
  process_.After(Duration(0), [this] { Tick(); });
}

void SimulatedWorker::Load() {
  FreeWhatNobodyReads();
  Life& life = *life_;
  for (;;) {
    if (life.loading >= options_.lanes) return;
    HoldingAction action = life.plan.Next(world_.now());
    switch (action.kind) {
      case HoldingAction::Kind::kLoad: {
        const LayerExpert pair = action.experts.front();
        ++life.loading;
        CheckMemory();
        life.disk.state = options_.disk;
        life.disk.Read(kExpertBytes,
                       [this, pair](const absl::Status& status) { Loaded(pair, status); });
        break;
      }
      case HoldingAction::Kind::kAnnounce:
        life.number = action.holdings.number;
        life.encoded = action.holdings.Encode();
        for (const auto& [pair, copy] : life.store) {
          if (action.holdings.Has(pair.layer, pair.expert)) {
            life.hidden_at.erase(pair);
          } else {
            life.hidden_at.try_emplace(pair, world_.now());
          }
        }
        world_.trace.Add(world_.now(), "announces",
                         {static_cast<uint64_t>(process_.host()), life.number,
                          static_cast<uint64_t>(action.holdings.count())});
        for (const auto& link : life.links) TellHoldings(*link);
        if (world_.mutant == Mutant::kDropBeforeSeen) {
          life.plan.Seen(life.number);
        } else {
          TellSeen();
        }
        SendHoldingsNews();
        break;
      case HoldingAction::Kind::kDrop:
        for (const LayerExpert& pair : action.experts) Drop(pair);
        FreeWhatNobodyReads();
        FactsChanged();
        break;
      case HoldingAction::Kind::kRefuse:
        HoldFailed(action.number, action.experts.front(),
                   absl::ResourceExhaustedError("memory is full"));
        break;
      case HoldingAction::Kind::kWait: {
        if (life.plan.quiet() && !life.told_quiet) FactsChanged();
        if (action.until == TimePoint::max()) return;
        const uint64_t timer = ++life.load_timer;
        process_.At(std::max(action.until, world_.now() + std::chrono::microseconds(1)),
                    [this, timer] {
                      if (timer == life_->load_timer) Load();
                    });
        return;
      }
    }
  }
}

void SimulatedWorker::Loaded(const LayerExpert& pair, const absl::Status& status) {
  Life& life = *life_;
  --life.loading;
  absl::Status why = status;
  const uint64_t number = life.plan.hold_number();
  if (status.ok()) {
    life.loaded_bytes += kExpertBytes;
    switch (life.plan.Loaded(pair, kExpertBytes)) {
      case HoldingPlan::Verdict::kKeep: {
        auto& held = life.store[pair];
        LetGo(std::exchange(held, std::make_shared<Copy>(Copy{
                                      world_.Weights(pair.layer, pair.expert), false})));
        break;
      }
      case HoldingPlan::Verdict::kNotWanted:
        break;
      case HoldingPlan::Verdict::kNoRoom:
        why = absl::ResourceExhaustedError("no room");
        break;
    }
  } else {
    life.plan.LoadFailed(pair);
  }
  CheckMemory();
  if (!why.ok()) HoldFailed(number, pair, why);
  FactsChanged();
  Load();
}

void SimulatedWorker::Drop(const LayerExpert& pair) {
  const auto held = life_->store.find(pair);
  if (held == life_->store.end()) {
    world_.invariants.Violate("holdings", "it drops what it does not hold");
    return;
  }
  const auto hidden = life_->hidden_at.find(pair);
  const bool bound_over = hidden != life_->hidden_at.end() &&
                          world_.now() - hidden->second >= HoldingPlanOptions().seen_patience;
  for (const auto& [host, router] : world_.routers) {
    for (const auto& link : life_->links) {
      if (link->router != router->instance() || !router->process().alive()) continue;
      if (bound_over || !router->Believes(link->id, pair)) continue;
      world_.invariants.Violate(
          "holdings", absl::StrFormat("worker on host %d drops layer %d expert %d, and the router "
                                      "on host %d may still ask for it",
                                      process_.host(), pair.layer.value(), pair.expert.value(),
                                      host));
    }
  }
  world_.trace.Add(world_.now(), "drops",
                   {static_cast<uint64_t>(process_.host()),
                    static_cast<uint64_t>(pair.layer.value()),
                    static_cast<uint64_t>(pair.expert.value())});
  LetGo(std::move(held->second));
  life_->store.erase(held);
  life_->hidden_at.erase(pair);
}

void SimulatedWorker::LetGo(std::shared_ptr<Copy> copy) {
  if (copy != nullptr) life_->going.push_back(std::move(copy));
}

void SimulatedWorker::FreeWhatNobodyReads() {
  const size_t before = life_->going.size();
  std::erase_if(life_->going, [this](const std::shared_ptr<Copy>& copy) {
    if (copy.use_count() > 1) return false;
    life_->plan.Freed(kExpertBytes);
    return true;
  });
  // What waited for room may go on; not from within Load.
  if (before != life_->going.size()) LoadSoon();
}

void SimulatedWorker::CheckMemory() {
  if (options_.memory_bytes == 0) return;
  const uint64_t used =
      (life_->store.size() + life_->going.size() + static_cast<size_t>(life_->loading)) *
      kExpertBytes;
  if (used > options_.memory_bytes) {
    world_.invariants.Violate("memory",
                              absl::StrFormat("worker on host %d uses %d of %d bytes",
                                              process_.host(), used, options_.memory_bytes));
  }
}

void SimulatedWorker::FactsChanged() {
  const bool quiet = life_->plan.quiet();
  life_->told_quiet = quiet;
  if (quiet) {
    life_->state.OnHoldingsSettled(life_->store.empty());
  } else {
    life_->state.OnHoldingsUnsettled();
  }
  TickSoon();
}

void SimulatedWorker::HoldFailed(uint64_t number, const LayerExpert& pair,
                                 const absl::Status& why) {
  world_.trace.Add(world_.now(), "hold failed",
                   {static_cast<uint64_t>(process_.host()),
                    static_cast<uint64_t>(pair.layer.value()),
                    static_cast<uint64_t>(pair.expert.value())});
  if (!life_->state.member() || life_->session == nullptr) return;
  v1::FromWorker message;
  v1::HoldFailed& failed = *message.mutable_hold_failed();
  failed.set_number(number);
  failed.set_layer(pair.layer.value());
  failed.set_expert(pair.expert.value());
  failed.set_reason(std::string(why.message()));
  SendProto(*life_->session, message);
}

// Session.

void SimulatedWorker::Tick() {
  const uint64_t life_number = process_.life();
  for (WorkerAction& action : life_->state.Tick(world_.now())) {
    Do(std::move(action));
    if (!process_.alive() || process_.life() != life_number) return;
  }
  if (life_->state.member()) SendHoldingsNews();
  const TimePoint next = life_->state.next_tick();
  const uint64_t timer = ++life_->tick_timer;
  if (next == TimePoint::max()) return;
  process_.At(std::max(next, world_.now() + std::chrono::microseconds(1)), [this, timer] {
    if (timer == life_->tick_timer) Tick();
  });
}

void SimulatedWorker::Do(WorkerAction action) {
  Life& life = *life_;
  switch (action.kind) {
    case WorkerAction::Kind::kConnect:
      Connect();
      break;
    case WorkerAction::Kind::kDisconnect:
      if (life.session) life.session->Close();
      life.session = nullptr;
      break;
    case WorkerAction::Kind::kSendBeat: {
      v1::FromWorker message;
      v1::WorkerBeat& beat = *message.mutable_beat();
      beat.set_sequence(action.sequence);
      beat.set_resident_bytes(life.store.size() * kExpertBytes);
      beat.set_hold_left_bytes(life.plan.left_bytes());
      beat.set_hold_number(life.plan.hold_number());
      beat.set_loaded_bytes(life.loaded_bytes);
      beat.set_links(static_cast<int>(life.links.size()));
      if (life.session) SendProto(*life.session, message);
      break;
    }
    case WorkerAction::Kind::kSendLeaving: {
      v1::FromWorker message;
      message.mutable_leaving()->set_reason("asked to stop");
      if (life.session) SendProto(*life.session, message);
      break;
    }
    case WorkerAction::Kind::kHold:
      world_.trace.Add(world_.now(), "hold",
                       {static_cast<uint64_t>(process_.host()), action.hold.number,
                        action.hold.experts.size(), action.hold.num_urgent});
      life.plan.Want(std::move(action.hold));
      life.told_quiet = false;
      LoadSoon();
      break;
    case WorkerAction::Kind::kReload:
      life.plan.Reload(action.pair);
      life.told_quiet = false;
      LoadSoon();
      break;
    case WorkerAction::Kind::kExit:
      world_.trace.Add(world_.now(), "worker exits",
                       {static_cast<uint64_t>(process_.host()),
                        static_cast<uint64_t>(action.status.code())});
      if (!action.status.ok()) {
        world_.invariants.Violate("liveness", "a worker ended: " +
                                                  std::string(action.status.message()));
      }
      Kill();
      break;
  }
}

void SimulatedWorker::Connect() {
  Life& life = *life_;
  life.session =
      world_.network.Connect(process_, world_.coordinator->process(), kWorkerSessionPort);
  life.session->on_message = [this](const MessagePtr& message) {
    if (const auto* to = AsProto<v1::ToWorker>(message)) Understand(*to);
    if (const auto* end = dynamic_cast<const EndMessage*>(message.get())) {
      const absl::Status status = end->status;
      if (life_->session) life_->session->Close();
      life_->session = nullptr;
      life_->state.OnSessionEnded(status, world_.now());
    }
    Tick();
  };
  life.session->on_closed = [this](const std::string& why) {
    life_->session = nullptr;
    life_->state.OnSessionEnded(absl::UnavailableError(why), world_.now());
    Tick();
  };
  v1::FromWorker message;
  v1::WorkerHello& hello = *message.mutable_hello();
  hello.set_protocol_version(kPoolProtocolVersion);
  *hello.mutable_model() = world_.coordinator->ModelMessage();
  hello.set_instance(instance_.value());
  hello.set_secret(std::string(secret_.begin(), secret_.end()));
  hello.add_addresses(absl::StrFormat("sim:%d", process_.host()));
  hello.set_pid(process_.host());
  hello.set_host(absl::StrFormat("host%d", process_.host()));
  hello.set_threads(1);
  hello.set_memory_bytes(world_.mutant == Mutant::kIgnoreMemory ? 0 : options_.memory_bytes);
  hello.set_expert_bytes(kExpertBytes);
  hello.set_preferred_id(life.state.preferred_id());
  hello.set_holdings(life.plan.announced().Encode());
  life.told_holdings = life.plan.announced().number;
  hello.set_spare(options_.spare);
  SendProto(*life.session, message);
}

void SimulatedWorker::SendHoldingsNews() {
  Life& life = *life_;
  if (!life.state.member() || life.session == nullptr) return;
  if (life.told_holdings == life.plan.announced().number) return;
  life.told_holdings = life.plan.announced().number;
  v1::FromWorker message;
  message.mutable_holdings()->set_holdings(life.plan.announced().Encode());
  SendProto(*life.session, message);
}

void SimulatedWorker::Understand(const v1::ToWorker& message) {
  Life& life = *life_;
  const TimePoint now = world_.now();
  switch (message.message_case()) {
    case v1::ToWorker::kWelcome:
      return life.state.OnWelcome(WorkerId(message.welcome().worker_id()),
                                  std::chrono::milliseconds(message.welcome().lease_ms()), now);
    case v1::ToWorker::kHold: {
      HoldRequest hold;
      hold.number = message.hold().number();
      hold.max_bytes_per_second = message.hold().max_bytes_per_second();
      for (int i = 0; i < message.hold().experts_size(); ++i) {
        const v1::ExpertRange& range = message.hold().experts(i);
        for (int e = range.begin(); e < range.end(); ++e)
          hold.experts.push_back({LayerId(range.layer()), ExpertId(e)});
        if (i + 1 == message.hold().urgent_entries()) hold.num_urgent = hold.experts.size();
      }
      if (options_.memory_bytes > 0 &&
          hold.experts.size() * kExpertBytes > options_.memory_bytes) {
        world_.invariants.Violate(
            "memory", absl::StrFormat("worker on host %d is asked to hold %d experts in %d bytes",
                                      process_.host(), hold.experts.size(),
                                      options_.memory_bytes));
      }
      return life.state.OnHold(std::move(hold), now);
    }
    case v1::ToWorker::kBeatSeen:
      return life.state.OnBeatSeen(now);
    case v1::ToWorker::kReload:
      return life.state.OnReload(
          {LayerId(message.reload().layer()), ExpertId(message.reload().expert())}, now);
    case v1::ToWorker::kDismissed:
      return life.state.OnDismissed(message.dismissed().reason(), now);
    case v1::ToWorker::MESSAGE_NOT_SET:
      return;
  }
}

}  // namespace sheaf::simulation
