// A router's session with the coordinator, and its links.

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "tests/simulation/router/router_life.h"
#include "tests/simulation/simulated_coordinator.h"
#include "tests/simulation/simulated_link.h"
#include "tests/simulation/worker/simulated_worker.h"

namespace sheaf::simulation {
namespace {

constexpr Duration kIdleTurn = std::chrono::milliseconds(20);
constexpr Duration kConnectTimeout = std::chrono::seconds(2);
constexpr Duration kReportEvery = std::chrono::seconds(1);
constexpr Duration kMaxSessionBackOff = std::chrono::seconds(2);

}  // namespace

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
    std::copy(member.link_key().begin(), member.link_key().end(), endpoint.key.bytes.begin());
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


void SimulatedRouter::StartConnect(const PoolLinks::ConnectJob& job) {
  int host = -1;
  if (!job.addresses.empty()) (void)absl::SimpleAtoi(job.addresses[0].substr(4), &host);
  const auto target = world_.workers.find(host);
  const WorkerId worker = job.worker;
  const LinkId link = job.request.link;
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
  LinkNonce nonce{};
  for (uint8_t& byte : nonce) byte = static_cast<uint8_t>(random_.Next());
  const auto handshake =
      std::make_shared<RouterHandshake>(job.request, FrameIntegrity::kNone, nonce);
  const auto proved = std::make_shared<bool>(false);
  channel->on_message = [this, fail, over, worker, link, channel, handshake,
                         proved](const MessagePtr& message) {
    const auto* bytes = dynamic_cast<const HelloAnswerMessage*>(message.get());
    if (bytes == nullptr || *over) return;
    if (!std::exchange(*proved, true)) {
      const absl::StatusOr<HelloProofBytes> proof = handshake->Prove(bytes->bytes);
      if (!proof.ok()) return fail(proof.status());
      auto answer = std::make_shared<HelloProofMessage>();
      answer->bytes = *proof;
      channel->Send(std::move(answer), kHelloProofBytes);
      return;
    }
    if (const auto keys = handshake->Finish(bytes->bytes); !keys.ok()) return fail(keys.status());
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
  hello->bytes = handshake->hello();
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

}  // namespace sheaf::simulation
