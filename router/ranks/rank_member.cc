#include "router/ranks/rank_member.h"

#include <grpcpp/grpcpp.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "base/one_line.h"
#include "base/status.h"
#include "exchange/gather/link_ranks.h"
#include "network/tls/grpc_credentials.h"
#include "router/attention/decoder.h"
#include "router/attention/step_plan.h"
#include "router/cluster/router_hello.h"
#include "router/ranks/reached_addresses.h"
#include "sheaf/v1/ranks.grpc.pb.h"

namespace sheaf {
namespace {

bool IsFinal(const absl::Status& status) {
  return absl::IsFailedPrecondition(status) || absl::IsUnauthenticated(status) ||
         absl::IsInvalidArgument(status) || absl::IsDataLoss(status);
}

LinkId RandomLink() {
  std::random_device device;
  return LinkId((uint64_t{device()} << 32) | device() | 1);
}

absl::StatusOr<RankSettings> SettingsOf(const v1::JoinRankResponse& response) {
  const auto lm_head = ParseLmHeadDtype(response.lm_head_dtype());
  if (!lm_head) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "--lm-head-dtype of the router: wanted auto or int8, got \"%s\": they have to be of one "
        "release",
        OneLine(response.lm_head_dtype())));
  }
  const auto format = kernels::ParseKvFormat(response.kv_cache_dtype());
  const bool sane = response.num_ranks() > 1 && response.block_size() > 0 &&
                    response.num_blocks() > 0 && response.max_batched_tokens() > 0 &&
                    response.max_model_len() > 0 &&
                    (response.activation_bits() == 16 || response.activation_bits() == 8) &&
                    response.link_key().size() == LinkKey{}.bytes.size();
  if (!format || !sane) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "the router's settings make no sense here: %s", OneLine(response.ShortDebugString())));
  }
  return RankSettings{.num_ranks = response.num_ranks(),
                      .lm_head = *lm_head,
                      .kv_format = *format,
                      .block_size = response.block_size(),
                      .num_blocks = response.num_blocks(),
                      .whole_latents = response.whole_latents(),
                      .max_batched_tokens = response.max_batched_tokens(),
                      .max_model_len = response.max_model_len(),
                      .activation_bits = static_cast<kernels::ActivationBits>(
                          response.activation_bits())};
}

}  // namespace

// The call that this process is a member by: read in the background, so that its end is seen.
class RankMember::Call {
 public:
  Call(const RankMemberOptions& options) : stub_(v1::AttentionRanks::NewStub(Channel(options))) {
    v1::JoinRankRequest request;
    *request.mutable_hello() = MakeRouterHello({options.model, options.instance, options.host,
                                                options.pid, options.version, options.token});
    request.set_rank(options.rank);
    request.set_gathers(kRankGathersVersion);
    reader_ = stub_->Join(&context_, request);
  }
  ~Call() {
    context_.TryCancel();
    if (thread_.joinable()) {
      thread_.join();
    } else {
      reader_->Finish();
    }
  }

  absl::StatusOr<v1::JoinRankResponse> Answer() {
    v1::JoinRankResponse response;
    if (!reader_->Read(&response)) {
      const grpc::Status status = reader_->Finish();
      thread_ = std::thread([] {});
      return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                          status.ok() ? "the router ended the call" : status.error_message());
    }
    thread_ = std::thread([this] {
      v1::JoinRankResponse more;
      while (reader_->Read(&more)) {
      }
      reader_->Finish();
      ended_.store(true);
    });
    return response;
  }
  bool ended() const { return ended_.load(); }
  // After Answer: where the router was reached, as gRPC says it.
  std::string peer() const { return context_.peer(); }

 private:
  static std::shared_ptr<grpc::Channel> Channel(const RankMemberOptions& options) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return grpc::CreateCustomChannel(
        options.router, GrpcChannelCredentials(options.tls, PeerRole::kRouter), arguments);
  }

  grpc::ClientContext context_;
  std::unique_ptr<v1::AttentionRanks::Stub> stub_;
  std::unique_ptr<grpc::ClientReader<v1::JoinRankResponse>> reader_;
  std::atomic<bool> ended_{false};
  std::thread thread_;
};

RankMember::RankMember(RankMemberOptions options, const Checkpoint& checkpoint,
                       const ModelConfig& config, ThreadPool& pool, LinkMaker& links,
                       RankMemberMetrics& metrics)
    : options_(std::move(options)),
      checkpoint_(checkpoint),
      config_(config),
      pool_(pool),
      metrics_(metrics),
      connector_(links.NewConnector()) {}

absl::Status RankMember::Run() {
  Duration back_off = options_.first_back_off;
  std::string told;
  while (!stopping_.load()) {
    computed_ = false;
    const absl::Status status = Belong();
    metrics_.NotJoined(std::string(status.message()));
    if (stopping_.load()) break;
    if (IsFinal(status)) return status;
    if (computed_) back_off = options_.first_back_off;
    if (std::string text(status.message()); text != told) {
      spdlog::warn("attention rank {}: {}; tried again", options_.rank, text);
      told = std::move(text);
    }
    const TimePoint until = std::chrono::steady_clock::now() + back_off;
    while (!stopping_.load() && std::chrono::steady_clock::now() < until) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    back_off = std::min(2 * back_off, options_.max_back_off);
  }
  return absl::OkStatus();
}

absl::Status RankMember::Belong() {
  Call call(options_);
  SHEAF_ASSIGN_OR_RETURN(const v1::JoinRankResponse response, call.Answer());
  SHEAF_ASSIGN_OR_RETURN(const RankSettings settings, SettingsOf(response));
  metrics_.NotJoined("it loads its weights");
  SHEAF_RETURN_IF_ERROR(Load(settings));
  SHEAF_ASSIGN_OR_RETURN(const std::unique_ptr<Bell> bell, Bell::Create());
  LinkRequest request;
  request.model_digest = options_.model.digest;
  request.worker = InstanceId(response.router_instance());
  request.router = options_.instance;
  request.link = RandomLink();
  std::copy(response.link_key().begin(), response.link_key().end(), request.key.bytes.begin());
  SHEAF_ASSIGN_OR_RETURN(
      std::unique_ptr<FrameLink> link,
      connector_->Connect(
          ReachedAddresses({response.addresses().begin(), response.addresses().end()}, call.peer()),
          request, *bell, std::chrono::steady_clock::now() + options_.connect_patience));
  spdlog::info("attention rank {} of {}: linked by {}", options_.rank, settings.num_ranks,
               link->path());
  return Compute(settings, std::move(link), *bell, call);
}

absl::Status RankMember::Load(const RankSettings& settings) {
  if (weights_ != nullptr && num_ranks_ == settings.num_ranks && lm_head_ == settings.lm_head)
    return absl::OkStatus();
  SHEAF_ASSIGN_OR_RETURN(const RankShare share,
                         ShareOfRank(config_, options_.rank, settings.num_ranks));
  weights_ = nullptr;
  SHEAF_ASSIGN_OR_RETURN(
      weights_, DecoderWeights::Load(
                    checkpoint_, config_, share, pool_, [](size_t, size_t) {}, settings.lm_head));
  num_ranks_ = settings.num_ranks;
  lm_head_ = settings.lm_head;
  metrics_.WeightsAre(weights_->resident_bytes());
  spdlog::info("attention rank {} of {}: {:.1f} MB of weights", options_.rank, settings.num_ranks,
               static_cast<double>(weights_->resident_bytes()) / 1e6);
  return absl::OkStatus();
}

absl::Status RankMember::Compute(const RankSettings& settings, std::unique_ptr<FrameLink> link,
                                 Bell& bell, const Call& call) {
  SHEAF_ASSIGN_OR_RETURN(std::vector<RankShare> shares,
                         ShareAmongRanks(config_, settings.num_ranks));
  const KvShare share = shares[static_cast<size_t>(options_.rank)].kv(settings.whole_latents);
  KvCacheOptions cache_options;
  cache_options.format = settings.kv_format;
  cache_options.block_size = settings.block_size;
  cache_options.memory_bytes =
      static_cast<size_t>(settings.num_blocks) *
      KvCache::BlockBytes(config_, share, settings.kv_format, settings.block_size);
  SHEAF_ASSIGN_OR_RETURN(const std::unique_ptr<KvCache> cache,
                         KvCache::Create(config_, share, cache_options));
  LeafRank group(options_.rank, settings.num_ranks, static_cast<uint32_t>(options_.model.digest),
                 std::move(link), bell);
  DecoderOptions decoder_options;
  decoder_options.max_batched_tokens = settings.max_batched_tokens;
  decoder_options.max_model_len = settings.max_model_len;
  decoder_options.activation_bits = settings.activation_bits;
  Decoder decoder(config_, *weights_, *cache, {std::move(shares), &group}, nullptr, pool_,
                  decoder_options);
  const auto stop = [&] { return stopping_.load() || call.ended(); };
  metrics_.Joined(cache_options.memory_bytes);
  for (;;) {
    pool_.Park();
    SHEAF_ASSIGN_OR_RETURN(const LeafRank::Plan plan, group.AwaitPlan(stop));
    absl::StatusOr<ReceivedStepPlan> step = ReceivedStepPlan::Decode(
        plan.bytes, {settings.block_size, settings.num_blocks, settings.max_model_len});
    if (!step.ok()) {
      group.Abort(step.status());
      continue;
    }
    const TimePoint began = std::chrono::steady_clock::now();
    const absl::Status status =
        decoder.Forward({plan.step, step->sequences()}, [](const LogitRows&) {});
    metrics_.StepEnded(status.ok(), std::chrono::steady_clock::now() - began);
    if (absl::IsUnavailable(status)) return status;
    computed_ = true;
  }
}

}  // namespace sheaf
