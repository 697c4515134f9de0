#include "cli/options/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <sstream>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/host_port.h"
#include "base/status.h"
#include "cli/options/client_flags.h"
#include "cli/options/config_file.h"
#include "cli/options/speculative_config.h"
#include "cli/options/tls_options.h"
#include "nlohmann/json.hpp"
#include "router/api/http/origin_policy.h"

namespace sheaf {

const char* NameOf(TransportKind kind) {
  switch (kind) {
    case TransportKind::kAuto:
      return "auto";
    case TransportKind::kSharedMemory:
      return "shm";
    case TransportKind::kTcp:
      return "tcp";
    case TransportKind::kInProcess:
      return "inprocess";
  }
  return "";
}

namespace {

// A number of bytes with or without a unit, or "auto".
CLI::Validator SizeOrAuto() {
  return CLI::Validator(
      [size = CLI::AsSizeValue(false)](std::string& value) {
        if (value != "auto") return size(value);
        value = std::to_string(kAutoKvMemory);
        return std::string();
      },
      "SIZE or auto");
}

// A name of the map, which help lists by its names alone.
template <typename T>
CLI::Validator OneOf(const std::map<std::string, T>& values) {
  std::vector<std::string> names;
  for (const auto& [name, value] : values) names.push_back(name);
  return CLI::CheckedTransformer(values).description("{" + absl::StrJoin(names, ",") + "}");
}

void AddIntegrityFlag(CLI::App& app, FrameIntegrity& integrity) {
  const std::map<std::string, FrameIntegrity> kinds = {{"mac", FrameIntegrity::kMac},
                                                       {"none", FrameIntegrity::kNone}};
  app.add_option("--exchange-integrity", integrity,
                 "Frames between routers and workers over TCP: mac (each is authenticated) or "
                 "none; the same on both sides. Shared memory has none")
      ->transform(OneOf(kinds))
      ->default_str(NameOf(integrity));
}

void AddProcessFlags(CLI::App& app, ProcessOptions& options) {
  app.add_option("checkpoint", options.checkpoint,
                 "Directory with config.json and safetensors files")
      ->required();
  app.add_option("--cpu-target", options.cpu_target,
                 "Instruction set of the kernels: auto, avx2, avx512, avx512_vnni, neon or scalar")
      ->capture_default_str();
  app.add_option("--log-level", options.log_level)
      ->check(CLI::IsMember({"debug", "info", "warn", "error"}))
      ->capture_default_str();
  app.add_option("--log-format", options.log_format)
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
}

// For --help alone: ExpandConfig has taken the flag before parsing.
void AddConfigFlag(CLI::App& app) {
  app.add_option("--config", "YAML file with the same names, e.g. max-model-len: 4096");
}

const std::map<std::string, TransportKind> kTransports = {
    {NameOf(TransportKind::kAuto), TransportKind::kAuto},
    {NameOf(TransportKind::kSharedMemory), TransportKind::kSharedMemory},
    {NameOf(TransportKind::kTcp), TransportKind::kTcp},
    {NameOf(TransportKind::kInProcess), TransportKind::kInProcess},
};

const std::map<std::string, RepackFormat> kRepackFormats = {
    {"gptq", RepackFormat::kGptq},
    {"gptq_v2", RepackFormat::kGptqV2},
    {"auto-round", RepackFormat::kAutoRound},
    {"compressed-tensors", RepackFormat::kCompressedTensors},
};

void AddTokenFlag(CLI::App& app, std::string& path) {
  app.add_option("--cluster-token-file", path,
                 "File whose contents workers and routers must present to join; default: none");
}

void AddPoolFlags(CLI::App& app, PoolOptions& options, int fewest_workers) {
  app.add_option("--workers", options.workers,
                 fewest_workers == 0
                     ? "Expert workers; 0 keeps the experts in the router's process"
                     : "Expert workers expected; the first plan waits for them")
      ->check(CLI::Range(fewest_workers, 1024))
      ->capture_default_str();
  app.add_option("--expert-replicas", options.expert_replicas,
                 "Workers that hold each expert; 1.5: the hottest half of them twice")
      ->check(CLI::Range(1.0, 64.0))
      ->capture_default_str();
  app.add_option("--cluster-host", options.cluster_host,
                 "Address that workers and other routers join at; default: --host");
  app.add_option("--cluster-port", options.cluster_port, "Its port; 0 = a free one")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  AddTokenFlag(app, options.cluster_token_file);
  AddClusterTlsFlags(app, options.tls);
  app.add_option("--lease-ms", options.lease_ms,
                 "A worker without a sign of life for this long is lost")
      ->check(CLI::Range(100, 3600000))
      ->capture_default_str();
}

void AddPoolCommandFlags(CLI::App& app, PoolCommandOptions& options) {
  using Action = PoolCommandOptions::Action;
  app.require_subcommand(1);
  const auto add = [&](const char* name, const char* text, Action action) {
    CLI::App* command = app.add_subcommand(name, text);
    command
        ->add_option("--coordinator", options.coordinator,
                     "Cluster address of the router or the coordinator, host:port")
        ->capture_default_str();
    AddTokenFlag(*command, options.cluster_token_file);
    AddDialTlsFlags(*command, options.dial);
    AddClusterTlsFlags(*command, options.tls);
    command
        ->add_option("--timeout-ms", options.timeout_ms, "Longest wait for the answer")
        ->check(CLI::Range(1, 3600000))
        ->capture_default_str();
    command->callback([&options, action] { options.action = action; });
    return command;
  };
  add("status", "Who holds what, load, links, moves under way", Action::kStatus)
      ->add_flag("--json", options.json, "One JSON object instead of a table");
  for (CLI::App* command :
       {add("drain", "A worker's experts move to others", Action::kDrain),
        add("undrain", "The worker takes experts again", Action::kUndrain)}) {
    command->add_option("worker", options.worker, "Its id")
        ->required()
        ->check(CLI::Range(0, 1 << 20));
  }
  add("replicas", "Holders that every expert shall have", Action::kReplicas)
      ->add_option("replicas", options.replicas, "1.5: the hottest half twice")
      ->required()
      ->check(CLI::Range(1.0, 64.0));
  add("rebalance", "Plans again now, with the loads measured so far", Action::kRebalance);
}

// "7000-7099" or "7000".
absl::Status ReadPorts(const std::string& text, int& first, int& last) {
  if (text.empty()) return absl::OkStatus();
  const size_t dash = text.find('-');
  const std::string begin = text.substr(0, dash);
  const std::string end = dash == std::string::npos ? begin : text.substr(dash + 1);
  if (absl::SimpleAtoi(begin, &first) && absl::SimpleAtoi(end, &last) && first >= 1 &&
      first <= last && last <= 65535) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrFormat(
      "--exchange-ports: wanted FIRST-LAST within 1..65535, got \"%s\"", text));
}

struct RouterText {  // flag values that need a conversion after parsing
  std::string kv_cache_dtype = "auto";
  std::string combine_format = "float32";
  std::string speculative_config;
  std::string metrics_compat = "vllm";
  int64_t seed = -1;
  std::vector<std::string> allowed_origins;
  bool ui = false;
  bool no_ui = false;
};

void AddOutputFlags(CLI::App& app, RouterOptions& options) {
  const auto parser = CLI::IsMember({"auto", "glm45", "glm47", "none"});
  app.add_option(
         "--tool-call-parser", options.tool_call_parser,
         "How calls are read from the output: glm45 (newlines), glm47 (none), none, or auto "
         "= as the checkpoint's chat template writes them")
      ->check(parser)
      ->capture_default_str();
  app.add_option("--reasoning-parser", options.reasoning_parser,
                 "How thoughts are told from the answer: glm45, glm47, none or auto")
      ->check(parser)
      ->capture_default_str();
  app.add_flag("--enable-auto-tool-choice")
      ->description("Accepted for vLLM's command lines; always on where there is a parser");
  app.add_option("--reasoning-fields", options.reasoning_fields,
                 "Names of thoughts in HTTP answers: both, reasoning or reasoning_content")
      ->check(CLI::IsMember({"both", "reasoning", "reasoning_content"}))
      ->capture_default_str();
  app.add_flag("--trust-request-chat-template", options.trust_request_chat_template,
               "Let requests bring a chat template of their own");
  app.add_flag("--escape-special-tokens", options.escape_special_tokens,
               "Encode special tokens that messages, tools or arguments spell (<|user|>, <think>) "
               "as plain text; recommended where clients are not trusted");
  app.add_flag("--json-any-whitespace", options.json_any_whitespace,
               "Let constrained JSON have white space between its tokens (default: compact; small "
               "models fill their answers with blanks otherwise)");
}

void AddRouterFlags(CLI::App& app, RouterOptions& options, RouterText& text) {
  AddProcessFlags(app, options.process);
  AddConfigFlag(app);
  const auto port = CLI::Range(0, 65535);
  app.add_option("--host", options.host, "Address that HTTP and gRPC listen on")
      ->capture_default_str();
  app.add_option("--port", options.port, "HTTP port; 0 = a free one")
      ->check(port)
      ->capture_default_str();
  app.add_option("--grpc-port", options.grpc_port, "gRPC port; 0 = a free one")
      ->check(port)
      ->capture_default_str();
  AddClientTlsFlags(app, options.tls);
  app.add_option("--max-connections", options.max_connections,
                 "Client connections of HTTP and of gRPC each; fewer where the limit of open files "
                 "(ulimit -n, raised to the hard one) does not allow as many")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  AddPoolFlags(app, options.pool, /*fewest_workers=*/0);
  app.add_option(
      "--allowed-origins", text.allowed_origins,
      "Web pages that may use the HTTP API (CORS), e.g. https://ui.example.com; * = all; "
      "a JSON list or several values. Default: only pages that this server's address "
      "itself would serve");
  CLI::Option* const no_ui = app.add_flag("--no-ui", text.no_ui, "No page at /");
  app.add_flag("--ui", text.ui,
               "Serve a page at / to chat and to look at the pool; default: on where --host is "
               "loopback, else off. It asks for no more than anyone who reaches the port may have")
      ->excludes(no_ui);
  app.add_option("--ui-file", options.ui_file,
                 "Serve this file as that page, read anew for each request; to work on it");
  app.add_option("--served-model-name", options.served_model_names,
                 "Names that requests may use; default: the checkpoint's folder name");
  app.add_option("--max-model-len", options.max_model_len,
                 "Prompt + output tokens of a request; 0 = what the model and the KV cache allow")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 31))
      ->capture_default_str();
  app.add_option("--max-num-seqs", options.max_num_seqs, "Sequences in a step")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  app.add_option("--max-num-batched-tokens", options.max_num_batched_tokens, "Tokens in a step")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--target-step-ms", options.target_step_ms,
                 "Milliseconds that a step with decoding sequences and prompts should take: prompts "
                 "are cut so that it does; 0 = 1.8 times what the step's decodes alone would take")
      ->check(CLI::Range(0.0, 600000.0))
      ->capture_default_str();
  app.add_option("--max-num-queued-reqs", options.max_num_queued_requests,
                 "Waiting requests before new ones are refused; one with n choices counts n times, and "
                 "one with more than all of them is an error")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--max-num-queued-tokens", options.max_num_queued_tokens,
                 "Their prompt tokens before new ones are refused; 4 bytes of memory each")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40))
      ->capture_default_str();
  app.add_option("--max-preparing-bytes", options.max_preparing_bytes,
                 "Bytes of requests that may be in memory at a time, from their first byte until "
                 "they are prepared; beyond, requests are refused with 503 / RESOURCE_EXHAUSTED. A "
                 "quarter is left to requests of up to 64 KiB. Accepts units, e.g. 1GiB")
      ->transform(CLI::AsSizeValue(false))
      ->check(CLI::Range(int64_t{1} << 20, int64_t{1} << 40))
      ->capture_default_str();
  app.add_option(
         "--kv-cache-dtype", text.kv_cache_dtype,
         "auto (bf16), float32, bfloat16, fp8 (= fp8_e4m3), fp8_e4m3 or fp8_e5m2. With latent "
         "attention (GLM-5.1) fp8 is e4m3 with a scale for 128 elements, rotated keys stay "
         "bf16, and there is no fp8_e5m2")
      ->capture_default_str();
  app.add_option("--kv-cache-memory-bytes", options.kv_cache_memory_bytes,
                 "Size of the KV cache; accepts units, e.g. 2GiB. auto: what memory is free, less the "
                 "weights and a reserve of a sixteenth")
      ->transform(SizeOrAuto())
      ->capture_default_str();
  app.add_option("--block-size", options.block_size, "Tokens a KV block")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_flag("--enable-prefix-caching,!--no-enable-prefix-caching",
               options.enable_prefix_caching,
               "Do not compute again what was computed of an equal beginning of a prompt; the same "
               "answers, byte for byte. The blocks stay in the KV cache until others need them")
      ->capture_default_str();
  app.add_option("--kv-offload-bytes", options.kv_offload_bytes,
                 "Keep so many bytes of KV blocks that had to leave the KV cache, for prompts that "
                 "begin alike; 0 = none. Without --kv-offload-path they take this much memory more "
                 "when full; accepts units, e.g. 64GiB")
      ->transform(CLI::AsSizeValue(false))
      ->capture_default_str();
  app.add_option("--kv-offload-path", options.kv_offload_path,
                 "Directory for them on a fast local disk: one private file without a name, all of "
                 "its room reserved at start and given back at the end; default: memory");
  app.add_option("--seed", text.seed,
                 "Of the seeds drawn for requests without one; default: random")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--max-logprobs", options.max_logprobs,
                 "Largest `logprobs`; -1 = the whole vocabulary")
      ->check(CLI::Range(-1, 1 << 20))
      ->capture_default_str();
  app.add_option("--threads", options.threads, "Compute threads of the router; 0 = its cores, as "
                 "its affinity mask and CPU quota allow")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_option("--worker-threads", options.worker_threads,
                 "Compute threads of each worker; 0 = its cores. With enough cores and neither flag, "
                 "router and workers get cores of their own")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_option("--transport", options.transport,
                 "Between router and workers: auto (shared memory within a host, TCP between "
                 "hosts), shm, tcp, or inprocess (workers are threads of this process)")
      ->transform(OneOf(kTransports))
      ->default_str(NameOf(options.transport));
  AddIntegrityFlag(app, options.exchange_integrity);
  app.add_option("--expert-timeout-ms", options.expert_timeout_ms,
                 "A step whose layer gets no answer for this long, and 20 ms more for each of its "
                 "tokens, is given up and computed again")
      ->check(CLI::Range(10, 3600000))
      ->capture_default_str();
  app.add_option("--late-floor-ms", options.late_floor_ms,
                 "No worker's answer is held for late (and asked for elsewhere) before this")
      ->check(CLI::Range(1, 3600000))
      ->capture_default_str();
  app.add_option("--combine-format", text.combine_format,
                 "Workers' answers: float32, or int16 (groups with a scale: half the bytes)")
      ->check(CLI::IsMember({"float32", "int16"}))
      ->capture_default_str();
  app.add_option("--verify-share", options.verify_share,
                 "Share of expert computations that two workers do and that are compared, e.g. 0.001")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  app.add_option("--shutdown-timeout-ms", options.shutdown_timeout_ms,
                 "Running requests may finish for this long after SIGTERM")
      ->check(CLI::Range(0, 3600000))
      ->capture_default_str();
  app.add_option("--ready-file", options.ready_file,
                 "Written when ready: addresses and process ids as JSON");
  app.add_flag("--access-log,!--no-access-log", options.access_log,
               "A log line for each request at its end: id, hash of its key, tokens, times, outcome, "
               "bytes; never its text")
      ->capture_default_str();
  AddTraceFlags(app, options.traces);
  app.add_option("--metrics-compat", text.metrics_compat,
                 "vllm: figures at /metrics also under the names that tools made for vLLM read; none")
      ->check(CLI::IsMember({"vllm", "none"}))
      ->capture_default_str();
  app.add_option("--metrics-keys", options.metrics_keys,
                 "Fairness keys that have figures of their own (by hash; the first ones, all others "
                 "share one); 0 = no figures by key")
      ->check(CLI::Range(0, 10000))
      ->capture_default_str();
  app.add_option("--speculative-config", text.speculative_config,
                 "Drafts that are verified in the same step, same output: a JSON object such as "
                 "{\"method\": \"ngram\", \"num_speculative_tokens\": 5, \"prompt_lookup_max\": 4, "
                 "\"prompt_lookup_min\": 2}; switches itself off where it does not pay. Default: none");
  AddOutputFlags(app, options);
}

// Each value is an origin, or one text of a JSON list: CLI11 has taken the list apart at its commas,
// quotes and blanks are left.
absl::Status ReadAllowedOrigins(const std::vector<std::string>& values,
                                std::vector<std::string>& origins) {
  for (const std::string& value : values) {
    std::string origin = value;
    const auto text = nlohmann::json::parse(value, nullptr, /*allow_exceptions=*/false);
    if (text.is_string()) origin = text.get<std::string>();
    // A valid name may hold a star, but whoever writes one means a pattern, and there are none.
    const bool pattern = origin.find('*') != std::string::npos;
    if (origin != "*" && (pattern || !NormalOrigin(origin))) {
      return absl::InvalidArgumentError(
          absl::StrFormat("--allowed-origins: wanted an origin such as https://ui.example.com (no "
                          "path, no pattern), or *, got \"%s\"",
                          origin));
    }
    origins.push_back(std::move(origin));
  }
  return absl::OkStatus();
}

absl::Status FinishRouter(RouterOptions& options, const RouterText& text) {
  const auto format = kernels::ParseKvFormat(text.kv_cache_dtype);
  if (!format) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "--kv-cache-dtype: wanted auto, float32, bfloat16, fp8, fp8_e4m3 or fp8_e5m2, got \"%s\"",
        text.kv_cache_dtype));
  }
  options.kv_format = *format;
  SHEAF_RETURN_IF_ERROR(CheckClientTls(options.tls));
  SHEAF_RETURN_IF_ERROR(SettingsOf(options.traces, [](const char*) { return nullptr; }).status());
  SHEAF_RETURN_IF_ERROR(CheckClusterTls(options.pool.tls));
  SHEAF_ASSIGN_OR_RETURN(options.speculation, ParseSpeculativeConfig(text.speculative_config));
  options.vllm_metrics = text.metrics_compat == "vllm";
  options.int16_combine = text.combine_format == "int16";
  SHEAF_RETURN_IF_ERROR(ReadAllowedOrigins(text.allowed_origins, options.allowed_origins));
  options.ui = text.ui || (!text.no_ui && IsLoopbackHost(options.host));
  if (!options.ui_file.empty() && !options.ui) {
    return absl::InvalidArgumentError("--ui-file: wanted --ui with it");
  }
  if (text.seed >= 0) options.seed = static_cast<uint64_t>(text.seed);
  for (const std::string& name : options.served_model_names) {
    if (name.empty()) {
      return absl::InvalidArgumentError("--served-model-name: wanted a name, got an empty one");
    }
  }
  if (options.kv_cache_memory_bytes < 1 && options.kv_cache_memory_bytes != kAutoKvMemory) {
    return absl::InvalidArgumentError("--kv-cache-memory-bytes: wanted at least 1, got 0");
  }
  if (!options.kv_offload_path.empty() && options.kv_offload_bytes == 0) {
    return absl::InvalidArgumentError(
        "--kv-offload-path: wanted --kv-offload-bytes with it, which says how much");
  }
  if (options.kv_offload_bytes > 0 && !options.enable_prefix_caching) {
    return absl::InvalidArgumentError(
        "--kv-offload-bytes: wanted with prefix caching, got --no-enable-prefix-caching");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Command> ParseCommandLine(int argc, const char* const* argv) {
  CLI::App app(
      "Sheaf serves 4-bit GLM mixture-of-experts checkpoints with a router and expert workers.",
      "sheaf");
  app.require_subcommand(1);
  app.set_version_flag("--version", "sheaf " SHEAF_VERSION);

  RouterOptions serve, router;
  RouterText serve_text, router_text;
  WorkerOptions worker;
  InspectOptions inspect;
  VerifyOptions verify;
  RepackOptions repack;
  AskOptions ask;
  ChatOptions chat;

  CLI::App* serve_app = app.add_subcommand("serve", "Router and expert workers on this machine");
  serve.pool.cluster_port = 0;  // its own children are told
  AddRouterFlags(*serve_app, serve, serve_text);
  CLI::App* router_app =
      app.add_subcommand("router", "Router alone; workers join at its cluster port");
  AddRouterFlags(*router_app, router, router_text);
  router_app->add_option("--coordinator", router.coordinator,
                         "host:port of the pool's coordinator; default: inside this router");

  CLI::App* worker_app = app.add_subcommand("worker", "One expert worker");
  AddProcessFlags(*worker_app, worker.process);
  AddConfigFlag(*worker_app);
  worker_app
      ->add_option("--coordinator,--router", worker.coordinator,
                   "Cluster address of the router or the coordinator, host:port")
      ->required();
  AddTokenFlag(*worker_app, worker.cluster_token_file);
  AddClusterTlsFlags(*worker_app, worker.tls);
  worker_app->add_option("--host", worker.host, "Address that /metrics listens on")
      ->capture_default_str();
  worker_app->add_option("--metrics-port", worker.metrics_port, "Port of /metrics; 0 = a free one")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  AddMetricsTlsFlags(*worker_app, worker.metrics_tls);
  worker_app
      ->add_option("--worker-threads", worker.worker_threads,
                   "Compute threads; 0 = its cores, as its affinity mask and CPU quota allow")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();

  std::map<std::string, TransportKind> between_processes = kTransports;
  between_processes.erase(NameOf(TransportKind::kInProcess));
  worker_app
      ->add_option(
          "--transport", worker.transport,
          "What routers may reach it by: auto (shared memory and TCP), shm or tcp")
      ->transform(OneOf(between_processes))
      ->default_str(NameOf(worker.transport));
  worker_app->add_option("--id,--slot", worker.id, "Wanted worker id; -1 = any free one")
      ->check(CLI::Range(-1, 1023))
      ->capture_default_str();
  worker_app
      ->add_option("--memory-bytes", worker.memory_bytes,
                   "Bytes of experts that it may hold, e.g. 32GiB; 0 = no bound")
      ->transform(CLI::AsSizeValue(false))
      ->capture_default_str();
  worker_app->add_flag("--spare", worker.spare, "Hold nothing until another worker is lost");
  worker_app->add_option(
      "--exchange-host", worker.exchange_host,
      "Address that TCP links use; default: the one that reaches the coordinator");
  worker_app->add_option("--exchange-interface", worker.exchange_interface,
                         "Network interface whose address they use instead, e.g. eth1");
  std::string exchange_ports;
  worker_app->add_option("--exchange-ports", exchange_ports,
                         "FIRST-LAST port that TCP links may listen on; default: any free one");
  AddIntegrityFlag(*worker_app, worker.exchange_integrity);

  CoordinatorCommandOptions coordinator;
  coordinator.pool.cluster_port = 50052;
  CLI::App* coordinator_app = app.add_subcommand(
      "coordinator", "The coordinator of a pool that several routers share, without a router");
  AddProcessFlags(*coordinator_app, coordinator.process);
  AddConfigFlag(*coordinator_app);
  AddPoolFlags(*coordinator_app, coordinator.pool, /*fewest_workers=*/0);
  coordinator_app->add_option("--host", coordinator.host, "Address that /metrics listens on")
      ->capture_default_str();
  coordinator_app
      ->add_option("--metrics-port", coordinator.metrics_port, "Port of /metrics; 0 = a free one")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  AddMetricsTlsFlags(*coordinator_app, coordinator.metrics_tls);
  coordinator_app->add_option("--ready-file", coordinator.ready_file,
                              "Written when it listens: its address and process id as JSON");

  PoolCommandOptions pool;
  CLI::App* pool_app =
      app.add_subcommand("pool", "What a pool does, and an operator's word with it");
  AddPoolCommandFlags(*pool_app, pool);

  TopOptions top;
  CLI::App* top_app = app.add_subcommand(
      "top", "A router and its pool, live in the terminal: load, speed, workers, losses");
  AddTopFlags(*top_app, top);

  CLI::App* inspect_app =
      app.add_subcommand("inspect", "What a checkpoint holds, and whether it can be served");
  inspect_app->add_option("checkpoint", inspect.checkpoint, "Directory")->required();
  inspect_app->add_flag("--json", inspect.json, "One JSON object instead of text");
  inspect_app->add_option("--workers", inspect.workers, "Divide the experts among this many")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();

  CLI::App* verify_app = app.add_subcommand(
      "verify", "Reads every byte of a checkpoint: digests, NaN, ranges, zero points");
  verify_app->add_option("checkpoint", verify.checkpoint, "Directory")->required();
  verify_app->add_flag("--json", verify.json, "One JSON object instead of text");
  verify_app->add_flag("--reference", verify.reference,
                       "Compare rows of every Linear with the scalar kernels too");
  verify_app->add_option("--rows", verify.rows, "Rows of each Linear that --reference compares")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  verify_app->add_option("--seed", verify.seed, "Of those rows; default: random")
      ->check(CLI::NonNegativeNumber);
  verify_app->add_option("--threads", verify.threads, "0 = the cores that it may use")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();

  CLI::App* repack_app = app.add_subcommand(
      "repack", "The same 4-bit weights in another file format, in a new directory");
  repack_app->add_option("checkpoint", repack.checkpoint, "Directory")->required();
  repack_app->add_option("output", repack.output, "Directory to make; must not exist")->required();
  repack_app->add_option("--format", repack.format, "What to write")
      ->transform(OneOf(kRepackFormats))
      ->required();

  CLI::App* ask_app = app.add_subcommand("ask", "Asks a running router one question over gRPC");
  AddAskFlags(*ask_app, ask);
  CLI::App* chat_app =
      app.add_subcommand("chat",
                         "A conversation with a running router over gRPC, from a terminal or a "
                         "pipe (a line a turn)");
  AddChatFlags(*chat_app, chat);

  std::vector<std::string> arguments(argv + 1, argv + argc);
  if (absl::Status status = ExpandConfig(arguments); !status.ok()) return status;
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
  try {
    app.parse(std::move(arguments));
  } catch (const CLI::ParseError& error) {
    std::ostringstream out, err;
    if (app.exit(error, out, err) == 0) return HelpText{out.str()};
    return absl::InvalidArgumentError(error.what());
  }
  if (serve_app->parsed()) {
    if (absl::Status status = FinishRouter(serve, serve_text); !status.ok()) return status;
    return ServeCommand{std::move(serve)};
  }
  if (router_app->parsed()) {
    if (absl::Status status = FinishRouter(router, router_text); !status.ok()) return status;
    return RouterCommand{std::move(router)};
  }
  if (worker_app->parsed()) {
    if (absl::Status status =
            ReadPorts(exchange_ports, worker.first_exchange_port, worker.last_exchange_port);
        !status.ok()) {
      return status;
    }
    SHEAF_RETURN_IF_ERROR(CheckClusterTls(worker.tls));
    SHEAF_RETURN_IF_ERROR(CheckMetricsTls(worker.metrics_tls, worker.tls));
    return WorkerCommand{std::move(worker)};
  }
  if (coordinator_app->parsed()) {
    SHEAF_RETURN_IF_ERROR(CheckClusterTls(coordinator.pool.tls));
    SHEAF_RETURN_IF_ERROR(CheckMetricsTls(coordinator.metrics_tls, coordinator.pool.tls));
    return CoordinatorCommand{std::move(coordinator)};
  }
  if (pool_app->parsed()) {
    SHEAF_RETURN_IF_ERROR(CheckClusterTls(pool.tls));
    if (pool.dial.wanted() && !pool.tls.cert.empty()) {
      return absl::InvalidArgumentError(
          "--tls, --cluster-tls-cert: wanted one of the two kinds of TLS flags, got both");
    }
    return PoolCommand{std::move(pool)};
  }
  if (top_app->parsed()) return TopCommand{std::move(top)};
  if (inspect_app->parsed()) return InspectCommand{std::move(inspect)};
  if (verify_app->parsed()) return VerifyCommand{std::move(verify)};
  if (repack_app->parsed()) return RepackCommand{std::move(repack)};
  if (chat_app->parsed()) return ChatCommand{std::move(chat)};
  return AskCommand{std::move(ask)};
}

}  // namespace sheaf
