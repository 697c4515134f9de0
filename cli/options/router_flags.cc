#include "cli/options/router_flags.h"

#include <CLI/CLI.hpp>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/host_port.h"
#include "base/status.h"
#include "cli/options/device_flags.h"
#include "cli/options/exchange_flags.h"
#include "cli/options/lm_head_flag.h"
#include "cli/options/pool_flags.h"
#include "cli/options/process_flags.h"
#include "cli/options/speculative_config.h"
#include "cli/options/tls_options.h"
#include "nlohmann/json.hpp"
#include "router/api/http/origin_policy.h"

namespace sheaf {
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

void AddListeningFlags(CLI::App& app, RouterOptions& options, RouterFlagTexts& texts) {
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
      "--allowed-origins", texts.allowed_origins,
      "Web pages that may use the HTTP API (CORS), e.g. https://ui.example.com; * = all; "
      "a JSON list or several values. Default: only pages that this server's address "
      "itself would serve");
  CLI::Option* const no_ui = app.add_flag("--no-ui", texts.no_ui, "No page at /");
  app.add_flag("--ui", texts.ui,
               "Serve a page at / to chat and to look at the pool; default: on where --host is "
               "loopback, else off. It asks for no more than anyone who reaches the port may have")
      ->excludes(no_ui);
  app.add_option("--ui-file", options.ui_file,
                 "Serve this file as that page, read anew for each request; to work on it");
}

void AddScheduleFlags(CLI::App& app, RouterOptions& options) {
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
  app.add_option(
         "--target-step-ms", options.target_step_ms,
         "Milliseconds that a step with decoding sequences and prompts should take: prompts "
         "are cut so that it does; 0 = 1.8 times what the step's decodes alone would take")
      ->check(CLI::Range(0.0, 600000.0))
      ->capture_default_str();
  app.add_option(
         "--max-num-queued-reqs", options.max_num_queued_requests,
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
}

void AddCacheFlags(CLI::App& app, RouterOptions& options, RouterFlagTexts& texts) {
  app.add_option(
         "--kv-cache-dtype", texts.kv_cache_dtype,
         "auto (bf16), float32, bfloat16, fp8 (= fp8_e4m3), fp8_e4m3 or fp8_e5m2. With latent "
         "attention (GLM-5.1) fp8 is e4m3 with a scale for 128 elements, rotated keys stay "
         "bf16, and there is no fp8_e5m2")
      ->capture_default_str();
  app.add_option(
         "--kv-cache-memory-bytes", options.kv_cache_memory_bytes,
         "Size of the KV cache; accepts units, e.g. 2GiB. auto: what memory is free, less the "
         "weights and a reserve of a sixteenth")
      ->transform(SizeOrAuto())
      ->capture_default_str();
  app.add_option("--block-size", options.block_size, "Tokens a KV block")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_flag("--enable-prefix-caching,!--no-enable-prefix-caching", options.enable_prefix_caching,
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
}

void AddSamplingAndThreadFlags(CLI::App& app, RouterOptions& options, RouterFlagTexts& texts) {
  app.add_option("--seed", texts.seed,
                 "Of the seeds drawn for requests without one; default: random")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--max-logprobs", options.max_logprobs,
                 "Largest `logprobs`; -1 = the whole vocabulary")
      ->check(CLI::Range(-1, 1 << 20))
      ->capture_default_str();
  app.add_option("--threads", options.threads,
                 "Compute threads of the router; 0 = its cores, as "
                 "its affinity mask and CPU quota allow")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_option(
         "--worker-threads", options.worker_threads,
         "Compute threads of each worker; 0 = its cores. With enough cores and neither flag, "
         "router and workers get cores of their own")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  AddWorkerDeviceFlag(app, options);
  app.add_option("--activation-bits", texts.activation_bits,
                 "Of what products with 4-bit and 8-bit weights read: 16 (as the model cards say), "
                 "or 8 in groups of 32: faster prefill, a relative error of 5e-3 a product instead "
                 "of 3e-5 (bf16: 2e-3), and so other answers. Workers and attention ranks compute "
                 "with the router's; experts on a GPU take 16 alone")
      ->check(CLI::IsMember({8, 16}))
      ->capture_default_str();
}

void AddRankFlags(CLI::App& app, RouterOptions& options, RouterFlagTexts& texts) {
  app.add_option("--tensor-parallel-size", options.tensor_parallel_size,
                 "Processes that share attention's weights, arithmetic and KV cache, the router "
                 "included; the same answers, byte for byte. `sheaf serve` starts the others, "
                 "`sheaf router` waits for `sheaf attention --rank 1` and on")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_option("--latent-cache", texts.latent_cache,
                 "How they keep what all heads of GLM-5.x's attention read: split (each some "
                 "positions of every block; what a step reads is gathered), or whole on each (as "
                 "many times the memory; for hosts between which 2 MB a token and layer take long)")
      ->check(CLI::IsMember({"split", "whole"}))
      ->capture_default_str();
  app.add_option("--attention-port", options.attention_port,
                 "Port that they join at, on the address of --cluster-host; 0 = a free one")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  app.add_option("--attention-timeout-ms", options.attention_timeout_ms,
                 "A rank that keeps a step waiting for this long, and 20 ms more for each of its "
                 "tokens, is lost: its requests are computed again when another takes its place")
      ->check(CLI::Range(10, 3600000))
      ->capture_default_str();
}

void AddExchangeFlags(CLI::App& app, RouterOptions& options, RouterFlagTexts& texts) {
  AddRouterTransportFlag(app, options.transport);
  AddIntegrityFlag(app, options.exchange_integrity);
  AddWaitFlag(app, options.exchange_wait);
  app.add_option("--expert-timeout-ms", options.expert_timeout_ms,
                 "A step whose layer gets no answer for this long, and 20 ms more for each of its "
                 "tokens, is given up and computed again")
      ->check(CLI::Range(10, 3600000))
      ->capture_default_str();
  app.add_option("--late-floor-ms", options.late_floor_ms,
                 "No worker's answer is held for late (and asked for elsewhere) before this")
      ->check(CLI::Range(1, 3600000))
      ->capture_default_str();
  app.add_option("--combine-format", texts.combine_format,
                 "Workers' answers: float32, or int16 (groups with a scale: half the bytes)")
      ->check(CLI::IsMember({"float32", "int16"}))
      ->capture_default_str();
  app.add_option(
         "--verify-share", options.verify_share,
         "Share of expert computations that two workers do and that are compared, e.g. 0.001")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
}

void AddOperatingFlags(CLI::App& app, RouterOptions& options, RouterFlagTexts& texts) {
  app.add_option("--shutdown-timeout-ms", options.shutdown_timeout_ms,
                 "Running requests may finish for this long after SIGTERM")
      ->check(CLI::Range(0, 3600000))
      ->capture_default_str();
  app.add_option("--ready-file", options.ready_file,
                 "Written when ready: addresses and process ids as JSON");
  app.add_flag(
         "--access-log,!--no-access-log", options.access_log,
         "A log line for each request at its end: id, hash of its key, tokens, times, outcome, "
         "bytes; never its text")
      ->capture_default_str();
  AddTraceFlags(app, options.traces);
  app.add_option(
         "--metrics-compat", texts.metrics_compat,
         "vllm: figures at /metrics also under the names that tools made for vLLM read; none")
      ->check(CLI::IsMember({"vllm", "none"}))
      ->capture_default_str();
  app.add_option(
         "--metrics-keys", options.metrics_keys,
         "Fairness keys that have figures of their own (by hash; the first ones, all others "
         "share one); 0 = no figures by key")
      ->check(CLI::Range(0, 10000))
      ->capture_default_str();
  app.add_option(
      "--speculative-config", texts.speculative_config,
      "Drafts that are verified in the same step, same output: a JSON object such as "
      "{\"method\": \"ngram\", \"num_speculative_tokens\": 5, \"prompt_lookup_max\": 4, "
      "\"prompt_lookup_min\": 2}; switches itself off where it does not pay. Default: none");
}

// Each value is an origin, or one text of a JSON list: CLI11 has taken the list apart at its
// commas, quotes and blanks are left.
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

}  // namespace

void AddRouterFlags(CLI::App& app, RouterOptions& options, RouterFlagTexts& texts) {
  AddProcessFlags(app, options.process);
  AddConfigFlag(app);
  AddListeningFlags(app, options, texts);
  AddScheduleFlags(app, options);
  AddLmHeadFlag(app, options.lm_head);
  AddCacheFlags(app, options, texts);
  AddSamplingAndThreadFlags(app, options, texts);
  AddRankFlags(app, options, texts);
  AddExchangeFlags(app, options, texts);
  AddOperatingFlags(app, options, texts);
  AddOutputFlags(app, options);
}

absl::Status FinishRouter(RouterOptions& options, const RouterFlagTexts& texts) {
  const auto format = kernels::ParseKvFormat(texts.kv_cache_dtype);
  if (!format) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "--kv-cache-dtype: wanted auto, float32, bfloat16, fp8, fp8_e4m3 or fp8_e5m2, got \"%s\"",
        texts.kv_cache_dtype));
  }
  options.kv_format = *format;
  options.activation_bits = static_cast<kernels::ActivationBits>(texts.activation_bits);
  SHEAF_RETURN_IF_ERROR(CheckClientTls(options.tls));
  SHEAF_RETURN_IF_ERROR(SettingsOf(options.traces, [](const char*) { return nullptr; }).status());
  SHEAF_RETURN_IF_ERROR(CheckClusterTls(options.pool.tls));
  SHEAF_RETURN_IF_ERROR(CheckWorkerDevices(options));
  SHEAF_ASSIGN_OR_RETURN(options.speculation, ParseSpeculativeConfig(texts.speculative_config));
  options.vllm_metrics = texts.metrics_compat == "vllm";
  options.int16_combine = texts.combine_format == "int16";
  options.whole_latents = texts.latent_cache == "whole";
  SHEAF_RETURN_IF_ERROR(ReadAllowedOrigins(texts.allowed_origins, options.allowed_origins));
  options.ui = texts.ui || (!texts.no_ui && IsLoopbackHost(options.host));
  if (!options.ui_file.empty() && !options.ui) {
    return absl::InvalidArgumentError("--ui-file: wanted --ui with it");
  }
  if (texts.seed >= 0) options.seed = static_cast<uint64_t>(texts.seed);
  for (const std::string& name : options.served_model_names) {
    if (name.empty()) {
      return absl::InvalidArgumentError("--served-model-name: wanted a name, got an empty one");
    }
  }
  if (options.kv_cache_memory_bytes < 1 && options.kv_cache_memory_bytes != kAutoKvMemory) {
    return absl::InvalidArgumentError("--kv-cache-memory-bytes: wanted at least 1, got 0");
  }
  if (options.tensor_parallel_size > 1 && options.kv_offload_bytes > 0) {
    return absl::InvalidArgumentError(
        "--kv-offload-bytes: wanted with --tensor-parallel-size 1, since other ranks keep no "
        "blocks "
        "that leave their cache");
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

}  // namespace sheaf
