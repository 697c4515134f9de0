#include "router/ranks/rank_hub.h"

#include <grpcpp/grpcpp.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "base/host_port.h"
#include "base/log_limit.h"
#include "base/one_line.h"
#include "base/status.h"
#include "coordinator/session_hello.h"
#include "network/grpc_listener.h"
#include "network/tls/grpc_peer_role.h"
#include "sheaf/v1/ranks.grpc.pb.h"

namespace sheaf {
namespace {

constexpr int kMaxMessageBytes = 64 << 10;
// How soon the end of a process's call is seen.
constexpr absl::Duration kLookEvery = absl::Milliseconds(50);

grpc::Status ToGrpcStatus(const absl::Status& status) {
  return {static_cast<grpc::StatusCode>(status.code()), std::string(status.message())};
}

}  // namespace

class RankHub::Life final : public v1::AttentionRanks::Service {
 public:
  Life(const RankHubOptions& options, std::unique_ptr<Bell> bell, const Clock& clock)
      : options_(options),
        clock_(clock),
        bell_(std::move(bell)),
        ranks_(options.settings.num_ranks, static_cast<uint32_t>(options.model.digest), *bell_,
               clock, options.patience),
        members_(static_cast<size_t>(options.settings.num_ranks)) {}
  ~Life() override { Stop(); }

  absl::Status Open(LinkMaker& links);
  void Stop();

  HubRanks& ranks() { return ranks_; }
  const std::string& address() const { return address_; }
  void SetOnChange(std::function<void()> on_change) {
    absl::MutexLock lock(&mutex_);
    on_change_ = std::move(on_change);
  }
  std::vector<int> TakeHungPids();
  std::vector<int> LinkedPids();

  grpc::Status Join(grpc::ServerContext* context, const v1::JoinRankRequest* request,
                    grpc::ServerWriter<v1::JoinRankResponse>* writer) override;

 private:
  struct Member {
    InstanceId instance;  // 0: nobody
    std::string who;
    std::string machine;
    int64_t pid = 0;
    bool linked = false;
  };

  absl::StatusOr<v1::JoinRankResponse> Enter(const grpc::ServerContext& context,
                                             const v1::JoinRankRequest& request);
  // Whether the process is still that rank.
  bool IsMember(int rank, InstanceId instance) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return !stopping_ && members_[static_cast<size_t>(rank)].instance == instance;
  }
  void Leave(int rank, InstanceId instance);
  void OnLink(std::unique_ptr<FrameLink> link, const Hello& hello);
  void Changed();

  const RankHubOptions options_;
  const Clock& clock_;
  LogLimit refusals_said_;  // strangers cause them
  const std::unique_ptr<Bell> bell_;
  HubRanks ranks_;
  std::unique_ptr<LinkListener> link_listener_;
  std::unique_ptr<GrpcListener> listener_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;

  absl::Mutex mutex_;
  std::vector<Member> members_ ABSL_GUARDED_BY(mutex_);  // by rank
  std::function<void()> on_change_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
};

absl::Status RankHub::Life::Open(LinkMaker& links) {
  LinkListenerOptions listening;
  listening.self = {options_.model.digest, options_.instance, options_.secret};
  listening.max_links = 2 * options_.settings.num_ranks;
  SHEAF_ASSIGN_OR_RETURN(link_listener_,
                         links.Listen(listening, *bell_,
                                      [this](std::unique_ptr<FrameLink> link, const Hello& hello) {
                                        OnLink(std::move(link), hello);
                                      }));
  grpc::ServerBuilder builder;
  auto listener = GrpcListener::Listen({.name = "attention ranks",
                                        .host = options_.host,
                                        .port = static_cast<uint16_t>(options_.port),
                                        .tls = options_.tls,
                                        .newest_tls_alone = true},
                                       builder);
  if (!listener.ok()) {
    return absl::UnavailableError(absl::StrFormat(
        "attention ranks cannot join at %s: is it taken? (%s)",
        JoinHostPort(options_.host, options_.port), listener.status().message()));
  }
  listener_ = *std::move(listener);
  builder.RegisterService(this);
  builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 10000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10000);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  server_ = builder.BuildAndStart();
  if (server_ == nullptr) {
    return absl::UnavailableError("the server of attention ranks cannot be started");
  }
  listener_->Start();
  address_ = JoinHostPort(options_.host, listener_->port());
  return absl::OkStatus();
}

void RankHub::Life::Stop() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    on_change_ = nullptr;
  }
  if (server_ == nullptr) return;
  listener_->Stop();
  server_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(1));
  server_ = nullptr;
  link_listener_ = nullptr;
}

absl::StatusOr<v1::JoinRankResponse> RankHub::Life::Enter(const grpc::ServerContext& context,
                                                          const v1::JoinRankRequest& request) {
  // A rank sees what the router sees.
  SHEAF_RETURN_IF_ERROR(CheckPeerRole(options_.tls.get(), context, {PeerRole::kRouter}));
  if (request.gathers() != kRankGathersVersion) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "the router's attention gathers by version %d, the rank's (pid %d on %s) by %d: "
        "they have to be of one release",
        kRankGathersVersion, request.hello().pid(), OneLine(request.hello().host()),
        request.gathers()));
  }
  SHEAF_ASSIGN_OR_RETURN(const RouterFacts facts,
                         CheckRouterHello(request.hello(), options_.model, options_.token));
  const RankSettings& settings = options_.settings;
  if (request.rank() < 1 || request.rank() >= settings.num_ranks) {
    return absl::InvalidArgumentError(
        absl::StrFormat("attention rank: wanted 1 to %d (rank 0 is the router), got %d",
                        settings.num_ranks - 1, request.rank()));
  }
  const std::string who =
      absl::StrFormat("pid %d on %s", request.hello().pid(), OneLine(request.hello().host()));
  absl::MutexLock lock(&mutex_);
  Member& member = members_[static_cast<size_t>(request.rank())];
  if (member.instance != InstanceId(0)) {
    return absl::AlreadyExistsError(absl::StrFormat("attention rank %d is %s; %s came too",
                                                    request.rank(), member.who, who));
  }
  member = {facts.instance, who, request.hello().host(), request.hello().pid(), false};
  v1::JoinRankResponse response;
  response.set_num_ranks(settings.num_ranks);
  response.set_lm_head_dtype(std::string(LmHeadDtypeName(settings.lm_head)));
  response.set_kv_cache_dtype(std::string(kernels::KvFormatName(settings.kv_format)));
  response.set_block_size(settings.block_size);
  response.set_num_blocks(settings.num_blocks);
  response.set_whole_latents(settings.whole_latents);
  response.set_activation_bits(static_cast<int32_t>(settings.activation_bits));
  response.set_max_batched_tokens(settings.max_batched_tokens);
  response.set_max_model_len(settings.max_model_len);
  for (const std::string& address : link_listener_->addresses()) response.add_addresses(address);
  response.set_router_instance(options_.instance.value());
  const LinkKey key = LinkKeyFor(options_.secret, options_.instance, facts.instance);
  response.set_link_key(std::string(key.bytes.begin(), key.bytes.end()));
  return response;
}

grpc::Status RankHub::Life::Join(grpc::ServerContext* context, const v1::JoinRankRequest* request,
                                 grpc::ServerWriter<v1::JoinRankResponse>* writer) {
  const absl::StatusOr<v1::JoinRankResponse> response = Enter(*context, *request);
  if (!response.ok()) {
    if (const auto more = refusals_said_.Say(clock_.Now())) {
      spdlog::warn("an attention rank is refused: {}{}",
                   OneLine(std::string(response.status().message())), *more);
    }
    return ToGrpcStatus(response.status());
  }
  const InstanceId instance(request->hello().instance());
  spdlog::info("attention rank {}: pid {} joins", request->rank(), request->hello().pid());
  bool there = writer->Write(*response);
  while (there && !context->IsCancelled()) {
    absl::MutexLock lock(&mutex_);
    const auto gone = [this, request, instance]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return !IsMember(request->rank(), instance);
    };
    there = !mutex_.AwaitWithTimeout(absl::Condition(&gone), kLookEvery);
  }
  Leave(request->rank(), instance);
  return grpc::Status::OK;
}

void RankHub::Life::Leave(int rank, InstanceId instance) {
  {
    absl::MutexLock lock(&mutex_);
    Member& member = members_[static_cast<size_t>(rank)];
    if (member.instance != instance) return;
    if (!stopping_) spdlog::warn("attention rank {}: {} is gone", rank, member.who);
    member = {};
    ranks_.Withdraw(rank);
  }
  Changed();
}

void RankHub::Life::OnLink(std::unique_ptr<FrameLink> link, const Hello& hello) {
  {
    absl::MutexLock lock(&mutex_);
    const auto member = std::find_if(members_.begin(), members_.end(), [&](const Member& each) {
      return each.instance == hello.router;
    });
    if (member == members_.end() || stopping_) return;
    const int rank = static_cast<int>(member - members_.begin());
    spdlog::info("attention rank {}: {} is linked by {}", rank, member->who, link->path());
    ranks_.Offer(rank, std::move(link), member->who);
    member->linked = true;
  }
  Changed();
}

void RankHub::Life::Changed() {
  std::function<void()> on_change;
  {
    absl::MutexLock lock(&mutex_);
    on_change = on_change_;
  }
  if (on_change) on_change();
}

std::vector<int> RankHub::Life::TakeHungPids() {
  std::vector<int> pids;
  absl::MutexLock lock(&mutex_);
  for (const int rank : ranks_.TakeLate()) {
    Member& member = members_[static_cast<size_t>(rank)];
    if (member.instance == InstanceId(0)) continue;
    if (member.machine == options_.machine) pids.push_back(static_cast<int>(member.pid));
    member = {};
    ranks_.Withdraw(rank);
  }
  return pids;
}

std::vector<int> RankHub::Life::LinkedPids() {
  std::vector<int> pids;
  absl::MutexLock lock(&mutex_);
  for (const Member& member : members_) {
    if (member.linked && member.machine == options_.machine)
      pids.push_back(static_cast<int>(member.pid));
  }
  return pids;
}

RankHub::RankHub(std::unique_ptr<Life> life) : life_(std::move(life)) {}
RankHub::~RankHub() = default;

absl::StatusOr<std::unique_ptr<RankHub>> RankHub::Start(const RankHubOptions& options,
                                                        LinkMaker& links, const Clock& clock) {
  SHEAF_ASSIGN_OR_RETURN(std::unique_ptr<Bell> bell, Bell::Create());
  auto life = std::make_unique<Life>(options, std::move(bell), clock);
  SHEAF_RETURN_IF_ERROR(life->Open(links));
  return std::unique_ptr<RankHub>(new RankHub(std::move(life)));
}

HubRanks& RankHub::ranks() { return life_->ranks(); }
const std::string& RankHub::address() const { return life_->address(); }
void RankHub::SetOnChange(std::function<void()> on_change) {
  life_->SetOnChange(std::move(on_change));
}
std::vector<int> RankHub::TakeHungPids() { return life_->TakeHungPids(); }
std::vector<int> RankHub::LinkedPids() const { return life_->LinkedPids(); }
void RankHub::Stop() { life_->Stop(); }

}  // namespace sheaf
