#include "cli/router/router_process.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "base/cpu_topology.h"
#include "base/host_port.h"
#include "base/one_line.h"
#include "base/status.h"
#include "base/thread_pool.h"
#include "cli/commands/checkpoint_text.h"
#include "cli/process/access_log.h"
#include "cli/process/exposed_metrics.h"
#include "cli/process/preflight.h"
#include "cli/process/process_identity.h"
#include "cli/router/data_plane.h"
#include "cli/router/expert_backend.h"
#include "cli/router/metrics_observer.h"
#include "cli/router/model_identity.h"
#include "cli/router/request_tracing.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/decoder_weights.h"
#include "model/model_layout.h"
#include "network/connection_resets.h"
#include "network/descriptor_shares.h"
#include "prometheus/registry.h"
#include "router/api/generation/api_context.h"
#include "router/api/generation/engine_gate.h"
#include "router/api/grpc/grpc_inference_service.h"
#include "router/api/grpc/grpc_server.h"
#include "router/api/http/http_server.h"
#include "router/api/http_endpoints.h"
#include "router/api/status/loading_endpoints.h"
#include "router/attention/decoder.h"
#include "router/attention/kv_cache.h"
#include "router/metrics/key_metrics.h"
#include "router/metrics/queue_metrics.h"
#include "router/metrics/rank_metrics.h"
#include "router/metrics/router_metrics.h"
#include "router/metrics/sequence_metrics.h"
#include "router/metrics/speculation_metrics.h"
#include "router/ranks/rank_hub.h"
#include "router/schedule/blocks/block_store.h"
#include "router/schedule/engine.h"
#include "router/ui/page_route.h"
#include "router/ui/pool_routes.h"

namespace sheaf {
namespace {

using std::chrono::milliseconds;

// For the last spans, when all else has stopped.
constexpr milliseconds kTracePatience{1000};

// Seeds and request names. Thread-safe.
class RandomSource {
 public:
  explicit RandomSource(std::optional<uint64_t> seed)
      : generator_(seed ? *seed
                        : (uint64_t{std::random_device{}()} << 32) | std::random_device{}()) {}
  uint64_t operator()() {
    absl::MutexLock lock(&mutex_);
    return generator_();
  }

 private:
  absl::Mutex mutex_;
  std::mt19937_64 generator_ ABSL_GUARDED_BY(mutex_);
};

int64_t UnixSeconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

ServedModel DescribeModel(const RouterOptions& options, const ModelConfig& config) {
  ServedModel model;
  model.names = options.served_model_names;
  if (model.names.empty()) {
    const std::filesystem::path path =
        std::filesystem::absolute(options.process.checkpoint).lexically_normal();
    model.names.push_back((path.has_filename() ? path : path.parent_path()).filename().string());
  }
  model.config = config;
  model.created_unix_seconds = UnixSeconds();
  model.server_version = SHEAF_VERSION;
  return model;
}

std::optional<VllmFacts> AliasFacts(const RouterOptions& options, const ServedModel& model) {
  if (!options.vllm_metrics) return std::nullopt;
  return VllmFacts{.model_name = model.names.front(),
                   .block_size = options.block_size,
                   .cache_dtype = std::string(kernels::KvFormatName(options.kv_format)),
                   .prefix_caching = options.enable_prefix_caching};
}

}  // namespace

// Members in order of construction; destruction goes the other way.
struct RouterProcess::Impl {
  explicit Impl(const RouterOptions& o) : options(o), random(o.seed) {}

  const RouterOptions options;
  SteadyClock clock;
  RandomSource random;
  prometheus::Registry registry;
  const std::shared_ptr<TlsReport> tls_report = std::make_shared<TlsReport>(&registry, clock);
  std::unique_ptr<RouterMetrics> metrics;
  std::unique_ptr<SpeculationMetrics> speculation_metrics;
  std::unique_ptr<QueueMetrics> queue_metrics;
  std::unique_ptr<SequenceMetrics> sequence_metrics;
  std::unique_ptr<RankMetrics> rank_metrics;
  std::unique_ptr<KeyMetrics> key_metrics;  // null: none by key
  std::unique_ptr<ExposedMetrics> exposed;
  std::unique_ptr<AccessLog> access_log;
  TraceSettings trace_settings;
  std::unique_ptr<RequestTracing> tracing;
  std::unique_ptr<MetricsObserver> observer;
  std::shared_ptr<const Checkpoint> checkpoint;  // until everything is loaded
  ModelConfig config;
  std::unique_ptr<CheckpointText> text;
  int max_model_len = 0;  // tokens
  KvCacheOptions kv_options;
  std::unique_ptr<EngineGate> gate;
  std::atomic<size_t> loaded_bytes{0}, total_bytes{0};
  std::unique_ptr<ThreadPool> pool;
  std::unique_ptr<DecoderWeights> weights;
  std::unique_ptr<KvCache> cache;
  std::unique_ptr<BlockStore> block_store;  // null: blocks that leave the cache are gone
  std::unique_ptr<ExpertBackend> experts;
  std::unique_ptr<LinkMaker> rank_links;
  std::unique_ptr<RankHub> ranks;  // null: a single rank
  std::unique_ptr<Decoder> decoder;
  std::unique_ptr<Engine> engine;
  ServedModel model;
  RequestLimits limits;
  ApiSettings settings;
  std::unique_ptr<ByteBudget> request_bytes;
  std::unique_ptr<WakeQueue> wakes;
  std::unique_ptr<ApiContext> context;
  // Ends before the context, though made first: its last tasks use it.
  std::unique_ptr<PreparationPool> preparation;
  ConnectionResets resets{clock};
  std::unique_ptr<grpc::Service> inference;
  std::unique_ptr<HttpRouter> loading_router;
  std::unique_ptr<HttpRouter> http_router;
  std::unique_ptr<GrpcServer> grpc;
  std::unique_ptr<HttpServer> http;
  std::atomic<bool> loaded{false};
  absl::Mutex mutex;
  absl::Status failure ABSL_GUARDED_BY(mutex);
  std::thread loader;

  absl::Status CheckCheckpoint();
  absl::Status OpenPorts();
  absl::Status LoadWeights();
  absl::Status BuildEngine();
  absl::Status MakeExperts();
  // Where the other attention ranks join.
  absl::Status OpenRanks();
  absl::StatusOr<std::vector<RankShare>> RankShares() const {
    return ShareAmongRanks(config, options.tensor_parallel_size);
  }
  // For people: the pool as JSON, and the page if it is wanted.
  std::vector<HttpRoute> RoutesForPeople();
  void Load();
  // Experts in workers; else they are loaded into this process, like the other weights.
  bool experts_are_elsewhere() const {
    return (options.pool.workers > 0 || !options.coordinator.empty()) &&
           options.transport != TransportKind::kInProcess;
  }
  absl::Status ClusterReady() {
    if (ranks != nullptr) SHEAF_RETURN_IF_ERROR(ranks->ranks().Ready());
    return experts->Ready();
  }
  double progress() const {
    const size_t total = total_bytes.load();
    return total == 0 ? 0.0 : static_cast<double>(loaded_bytes.load()) / static_cast<double>(total);
  }
};

absl::Status RouterProcess::Impl::MakeExperts() {
  SHEAF_ASSIGN_OR_RETURN(
      experts,
      ExpertBackend::Create({options, checkpoint, config, *pool, clock, registry, tls_report,
                             tracing->dispatches()}));
  return absl::OkStatus();
}

absl::Status RouterProcess::Impl::OpenRanks() {
  if (options.tensor_parallel_size == 1) return absl::OkStatus();
  SHEAF_ASSIGN_OR_RETURN(const std::vector<RankShare> shares, RankShares());
  RankHubOptions hub;
  hub.settings.num_ranks = options.tensor_parallel_size;
  hub.settings.lm_head = options.lm_head;
  hub.settings.kv_format = options.kv_format;
  hub.settings.block_size = options.block_size;
  SHEAF_ASSIGN_OR_RETURN(
      hub.settings.num_blocks,
      KvCache::NumBlocks(config, shares.front().kv(options.whole_latents), kv_options));
  hub.settings.whole_latents = options.whole_latents;
  hub.settings.max_batched_tokens = options.max_num_batched_tokens;
  hub.settings.max_model_len = max_model_len;
  hub.settings.activation_bits = options.activation_bits;
  SHEAF_ASSIGN_OR_RETURN(hub.model, IdentityOf(*checkpoint, config));
  SHEAF_ASSIGN_OR_RETURN(hub.token, ReadToken(options.pool.cluster_token_file));
  SHEAF_ASSIGN_OR_RETURN(hub.tls, OpenClusterTls(options.pool.tls, tls_report));
  hub.host = options.pool.cluster_host.empty() ? options.host : options.pool.cluster_host;
  hub.port = options.attention_port;
  hub.instance = RandomInstance();
  hub.secret = RandomSecret();
  hub.machine = HostName();
  hub.patience.step = milliseconds(options.attention_timeout_ms);
  WarnIfExposed("the port of attention ranks", hub.host, hub.tls != nullptr,
                "may join as a rank and read what is computed");
  SHEAF_ASSIGN_OR_RETURN(
      rank_links, MakeRankLinks(options.transport, options.exchange_integrity, hub.host));
  SHEAF_ASSIGN_OR_RETURN(ranks, RankHub::Start(hub, *rank_links, clock));
  spdlog::info("attention ranks 1 to {} join at {}", options.tensor_parallel_size - 1,
               ranks->address());
  return absl::OkStatus();
}

std::vector<HttpRoute> RouterProcess::Impl::RoutesForPeople() {
  // Experts in workers are there before the ports, others come with the weights.
  const auto there = [this] { return experts_are_elsewhere() || loaded.load(); };
  PoolRoutesParts parts{
      .context = *context,
      .metrics = registry,
      .pool = [this, there]() -> std::optional<PoolPicture> {
        return there() ? std::optional(experts->Picture()) : std::nullopt;
      },
      .experts = [this, there] { return there() ? experts->Experts() : std::nullopt; },
      .progress = [this] { return loaded.load() ? 1.0 : std::min(progress(), 0.999); }};
  std::vector<HttpRoute> routes = PoolRoutes(parts);
  if (options.ui) routes.push_back(PageRoute(options.ui_file));
  return routes;
}

absl::Status RouterProcess::Impl::CheckCheckpoint() {
  const MemoryLimits memory = DetectMemoryLimits();
  Preflight preflight = RunPreflight(options, &memory);
  for (const std::string& remark : AllRemarks(preflight.report)) {
    spdlog::warn("{}", OneLine(remark));
  }
  if (!preflight.report.refusal.empty()) {
    return absl::InvalidArgumentError(preflight.report.refusal);
  }
  checkpoint = std::move(preflight.checkpoint);
  config = *std::move(preflight.config);
  text = std::move(preflight.text);
  max_model_len = preflight.max_model_len;
  kv_options = preflight.kv_cache;
  const auto parser = [](const std::string& choice, TagFormat format) {
    return choice == "auto" ? absl::StrFormat("auto -> %s", TagFormatName(format)) : choice;
  };
  spdlog::info("tool calls: {}; thoughts: {}",
               parser(options.tool_call_parser, text->output_format().tools),
               parser(options.reasoning_parser, text->output_format().reasoning));
  spdlog::info("answers end at {}", preflight.stop_ids.Text());
  gate = std::make_unique<EngineGate>(max_model_len);
  const CpuTopology cpu = DetectCpuTopology();
  pool =
      std::make_unique<ThreadPool>(options.threads > 0 ? options.threads : cpu.default_threads());
  spdlog::info("{} compute threads on {} cores{}", pool->num_threads(), cpu.usable_cores,
               std::isinf(cpu.cpu_quota)
                   ? std::string()
                   : absl::StrFormat(", with a quota of %.2f", cpu.cpu_quota));
  return absl::OkStatus();
}

absl::Status RouterProcess::Impl::LoadWeights() {
  spdlog::info("{}: {} layers, {} experts a layer; loading the router's weights",
               options.process.checkpoint, config.num_layers, config.num_experts);
  const auto report = [this](size_t done, size_t total) {
    total_bytes.store(total);
    loaded_bytes.store(done);
    metrics->LoadProgressIs(progress());
  };
  SHEAF_ASSIGN_OR_RETURN(const std::vector<RankShare> shares, RankShares());
  SHEAF_ASSIGN_OR_RETURN(weights, DecoderWeights::Load(*checkpoint, config, shares.front(), *pool,
                                                       report, options.lm_head));
  spdlog::info("router weights: {:.1f} MB resident",
               static_cast<double>(weights->resident_bytes()) / 1e6);
  return absl::OkStatus();
}

absl::Status RouterProcess::Impl::BuildEngine() {
  SHEAF_ASSIGN_OR_RETURN(std::vector<RankShare> shares, RankShares());
  const KvShare share = shares.front().kv(options.whole_latents);
  SHEAF_ASSIGN_OR_RETURN(cache, KvCache::Create(config, share, kv_options));
  spdlog::info("KV cache: {} blocks of {} tokens ({}); requests of up to {} tokens",
               cache->num_blocks(), cache->block_size(), kernels::KvFormatName(options.kv_format),
               max_model_len);
  if (options.activation_bits == kernels::ActivationBits::k8)
    spdlog::info("activations: 8 bits in products with integer weights (--activation-bits)");
  if (options.kv_offload_bytes > 0) {
    SHEAF_ASSIGN_OR_RETURN(block_store,
                           BlockStore::Create({static_cast<uint64_t>(options.kv_offload_bytes),
                                               options.kv_offload_path,
                                               KvCache::BlockBytes(config, share, options.kv_format,
                                                                   options.block_size)}));
    spdlog::info("KV offload: {} blocks in {}", block_store->capacity(),
                 options.kv_offload_path.empty() ? "memory" : options.kv_offload_path);
  }
  if (!experts_are_elsewhere()) SHEAF_RETURN_IF_ERROR(MakeExperts());
  checkpoint.reset();
  DecoderOptions decoder_options;
  decoder_options.max_batched_tokens = options.max_num_batched_tokens;
  decoder_options.max_model_len = max_model_len;
  decoder_options.activation_bits = options.activation_bits;
  // In this very process they use the same pool.
  const bool with_workers = options.pool.workers > 0 || !options.coordinator.empty();
  decoder_options.experts_share_cores = with_workers && options.experts_share_cores;
  decoder = ranks == nullptr
                ? std::make_unique<Decoder>(config, *weights, *cache, experts->layer(), *pool,
                                            decoder_options)
                : std::make_unique<Decoder>(config, *weights, *cache,
                                            DecoderRanks{std::move(shares), &ranks->ranks()},
                                            &experts->layer(), *pool, decoder_options);
  if (ranks != nullptr) observer->WatchRanks(ranks->ranks());
  EngineOptions engine_options;
  engine_options.max_model_len = max_model_len;
  engine_options.max_num_seqs = options.max_num_seqs;
  engine_options.max_num_batched_tokens = options.max_num_batched_tokens;
  engine_options.target_step_ms = options.target_step_ms;
  engine_options.experts = {config.num_experts, config.experts_per_token};
  engine_options.max_queued_requests = options.max_num_queued_requests;
  engine_options.speculation = options.speculation;
  engine_options.max_queued_tokens = options.max_num_queued_tokens;
  engine_options.eos_token_ids = config.eos_token_ids;
  engine_options.prefix_cache.enabled = options.enable_prefix_caching;
  engine_options.prefix_cache.key = RandomBlockHashKey();
  engine_options.delivery_threads = std::clamp(DetectCpuTopology().usable_cores / 8, 1, 4);
  engine = std::make_unique<Engine>(
      engine_options, EngineParts{.decoder = decoder.get(),
                                  .cache = cache.get(),
                                  .tokenizer = &text->tokenizer(),
                                  .pool = pool.get(),
                                  .clock = &clock,
                                  .observer = experts->ObserveSteps(*observer),
                                  .cluster_ready = [this] { return ClusterReady(); },
                                  .block_store = block_store.get(),
                                  .cache_lost =
                                      [this] {
                                        return ranks != nullptr && ranks->ranks().AdoptLinks();
                                      }});
  return absl::OkStatus();
}

absl::Status RouterProcess::Impl::OpenPorts() {
  model = DescribeModel(options, config);
  limits.max_logprobs = options.max_logprobs;
  limits.max_waiting_tokens = options.max_num_queued_tokens;
  settings.reasoning_field = options.reasoning_fields != "reasoning_content";
  settings.reasoning_content_field = options.reasoning_fields != "reasoning";
  settings.trust_request_chat_template = options.trust_request_chat_template;
  settings.json_any_whitespace = options.json_any_whitespace;
  const size_t preparing = static_cast<size_t>(options.max_preparing_bytes);
  request_bytes = std::make_unique<ByteBudget>(
      ByteBudget::Options{.total_bytes = preparing,
                          .reserve_bytes = preparing / 4,
                          .small_bytes = size_t{64} << 10});
  preparation = std::make_unique<PreparationPool>(PreparationPoolOptions{});
  wakes = std::make_unique<WakeQueue>();
  exposed = std::make_unique<ExposedMetrics>(registry, AliasFacts(options, model));
  access_log = std::make_unique<AccessLog>(
      AccessLogFormat{options.process.log_format == "json", model.names.front()},
      options.access_log, key_metrics.get());
  tracing = std::make_unique<RequestTracing>(
      RequestTracing::Parts{.settings = trace_settings,
                            .registry = registry,
                            .clock = clock,
                            .random = [this] { return random(); },
                            .model = model.names.front(),
                            .next = *access_log});
  context = std::make_unique<ApiContext>(ApiContext{*gate, *text, model, limits, settings,
                                                    *metrics, *preparation, *wakes, clock,
                                                    [this] { return random(); }, UnixSeconds,
                                                    request_bytes.get(), tracing->log()});
  inference = MakeInferenceService(*context, &resets);
  const std::vector<HttpRoute> for_people = RoutesForPeople();
  loading_router = std::make_unique<HttpRouter>(
      MakeLoadingRouter([this] { return progress(); }, *exposed, for_people));
  http_router = std::make_unique<HttpRouter>(MakeHttpRouter(*context, *exposed, for_people));
  std::vector<grpc::Service*> services = {inference.get()};
  SHEAF_RETURN_IF_ERROR(OpenRanks());
  // Workers load while this process does.
  if (experts_are_elsewhere()) SHEAF_RETURN_IF_ERROR(MakeExperts());
  SHEAF_ASSIGN_OR_RETURN(
      const DescriptorShares shares,
      ShareDescriptors(NeedsOfRouter(CurrentDescriptorLimit(), OpenDescriptors(),
                                     options.pool.workers,
                                     static_cast<size_t>(options.max_connections))));
  spdlog::info("up to {} connections of HTTP and of gRPC each; at most {} files and sockets",
               shares.connections, CurrentDescriptorLimit());
  SHEAF_ASSIGN_OR_RETURN(const std::shared_ptr<TlsIdentity> tls,
                         OpenClientTls(options.tls, tls_report));
  WarnIfExposed("the port of clients", options.host, tls != nullptr, "may ask and read /metrics");
  SHEAF_ASSIGN_OR_RETURN(
      grpc, GrpcServer::Start(
                {.host = options.host,
                 .port = static_cast<uint16_t>(options.grpc_port),
                 .max_connections = shares.connections,
                 .descriptor_ceiling = shares.ceiling,
                 .on_refused = [this] { metrics->ConnectionRefused(RequestFace::kGrpc); },
                 .resets = &resets,
                 .tls = tls},
                *gate, services));
  HttpServerOptions http_options;
  http_options.max_connections = shares.connections;
  http_options.descriptor_ceiling = shares.ceiling;
  http_options.host = options.host;
  http_options.port = static_cast<uint16_t>(options.port);
  // One carries 60,000 tokens a second; more of them wake each other.
  http_options.num_threads = std::clamp(DetectCpuTopology().usable_cores / 4, 1, 4);
  http_options.allowed_origins = options.allowed_origins;
  http_options.tls = tls;
  http_options.max_body_bytes =
      std::min(http_options.max_body_bytes, request_bytes->max_lease_bytes());
  SHEAF_ASSIGN_OR_RETURN(
      http, HttpServer::Start(http_options,
                              {*loading_router, preparation.get(), metrics.get(), clock,
                               context->random, context->unix_seconds, request_bytes.get()}));
  return absl::OkStatus();
}

void RouterProcess::Impl::Load() {
  absl::Status status = LoadWeights();
  if (status.ok()) status = BuildEngine();
  if (!status.ok()) {
    absl::MutexLock lock(&mutex);
    failure = std::move(status);
    return;
  }
  experts->SetStepIsMoot([this] { return engine->StepIsMoot(); });
  const auto on_change = [this] {
    engine->Wake();
    grpc->HealthChanged();
  };
  experts->SetOnChange(on_change);
  if (ranks != nullptr) ranks->SetOnChange(on_change);
  gate->Open(*engine);
  http->Use(*http_router);
  loaded.store(true);
  grpc->HealthChanged();
}

RouterProcess::RouterProcess() = default;
RouterProcess::~RouterProcess() {
  if (impl_) Stop();
}

absl::StatusOr<std::unique_ptr<RouterProcess>> RouterProcess::Start(const RouterOptions& options) {
  std::unique_ptr<RouterProcess> process(new RouterProcess);
  process->impl_ = std::make_unique<Impl>(options);
  Impl& impl = *process->impl_;
  impl.metrics = std::make_unique<RouterMetrics>(impl.registry, SHEAF_VERSION);
  impl.queue_metrics = std::make_unique<QueueMetrics>(impl.registry);
  impl.speculation_metrics = std::make_unique<SpeculationMetrics>(impl.registry);
  impl.sequence_metrics = std::make_unique<SequenceMetrics>(impl.registry);
  impl.rank_metrics = std::make_unique<RankMetrics>(impl.registry, options.tensor_parallel_size);
  if (options.metrics_keys > 0) {
    impl.key_metrics =
        std::make_unique<KeyMetrics>(impl.registry, static_cast<size_t>(options.metrics_keys));
  }
  impl.observer = std::make_unique<MetricsObserver>(
      *impl.metrics, *impl.queue_metrics, *impl.speculation_metrics, *impl.sequence_metrics,
      *impl.rank_metrics);
  SHEAF_ASSIGN_OR_RETURN(impl.trace_settings, SettingsOf(options.traces, std::getenv));
  for (const std::string& remark : impl.trace_settings.remarks) spdlog::warn("{}", remark);
  SHEAF_RETURN_IF_ERROR(impl.CheckCheckpoint());
  SHEAF_RETURN_IF_ERROR(impl.OpenPorts());
  impl.loader = std::thread([&impl] { impl.Load(); });
  spdlog::info("listening: HTTP {}, gRPC {}", process->http_address(), process->grpc_address());
  if (options.ui) spdlog::info("a page to look at: http://{}/", process->http_address());
  return process;
}

bool RouterProcess::ready() const { return loaded() && impl_->gate->ready(); }

bool RouterProcess::live() const { return impl_->gate->live(); }

bool RouterProcess::loaded() const { return impl_->loaded.load(); }

absl::Status RouterProcess::failure() const {
  absl::MutexLock lock(&impl_->mutex);
  return impl_->failure;
}

absl::Status RouterProcess::broken_checkpoint() const {
  return impl_->experts_are_elsewhere() ? impl_->experts->broken_checkpoint() : absl::OkStatus();
}

std::string RouterProcess::http_address() const {
  return JoinHostPort(impl_->options.host, impl_->http->port());
}

std::string RouterProcess::grpc_address() const {
  return JoinHostPort(impl_->options.host, impl_->grpc->port());
}

std::string RouterProcess::cluster_address() const {
  return impl_->experts_are_elsewhere() ? impl_->experts->cluster_address() : std::string();
}

std::string RouterProcess::attention_address() const {
  return impl_->ranks != nullptr ? impl_->ranks->address() : std::string();
}

void RouterProcess::CountRanks() {
  if (impl_->ranks == nullptr) return;
  static_assert(kRankEnds == RankMetrics::kLosses &&
                static_cast<int>(RankEnd::kLate) == static_cast<int>(RankMetrics::Loss::kLate) &&
                static_cast<int>(RankEnd::kOther) == static_cast<int>(RankMetrics::Loss::kOther));
  const RankTally tally = impl_->ranks->ranks().tally();
  impl_->rank_metrics->GroupIs({tally.present, tally.groups, tally.lost}, impl_->clock.Now());
}

std::vector<int> RouterProcess::TakeHungPids() {
  if (!loaded()) return {};
  std::vector<int> pids = impl_->experts->TakeHungPids();
  if (impl_->ranks != nullptr) {
    for (const int pid : impl_->ranks->TakeHungPids()) pids.push_back(pid);
  }
  return pids;
}

std::vector<int> RouterProcess::LinkedRankPids() const {
  return impl_->ranks == nullptr ? std::vector<int>() : impl_->ranks->LinkedPids();
}

void RouterProcess::Drain(milliseconds patience) {
  const TimePoint deadline = impl_->clock.Now() + patience;
  const auto left = [&] {
    return std::max(milliseconds(0),
                    std::chrono::duration_cast<milliseconds>(deadline - impl_->clock.Now()));
  };
  if (impl_->loader.joinable()) impl_->loader.join();
  if (impl_->engine) impl_->engine->Stop(deadline);
  if (impl_->http) impl_->http->Stop(left() + milliseconds(200));
}

void RouterProcess::Stop() {
  Drain(milliseconds(0));
  if (impl_->ranks) {
    impl_->ranks->SetOnChange(nullptr);
    impl_->ranks->Stop();
  }
  if (impl_->experts) {
    impl_->experts->SetOnChange(nullptr);  // the engine goes first
    impl_->experts->Stop();
  }
  if (impl_->grpc) impl_->grpc->Stop(milliseconds(1000));
  if (impl_->tracing) impl_->tracing->Stop(kTracePatience);
}

}  // namespace sheaf
