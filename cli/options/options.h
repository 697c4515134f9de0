#pragma once
// What each `sheaf` command can be told: one struct a command, filled and validated by
// ParseCommandLine.
//
// Flags that mean the same in vLLM have vLLM's names. `--config FILE` reads the same names from a
// YAML map (max-model-len: 4096); flags given on the command line win.
//
// Errors     kInvalidArgument with one line that names the flag, wanted and got. Help and version
//            texts come back as HelpText, to be printed with exit status 0.

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "cli/options/pool_options.h"
#include "cli/options/process_options.h"
#include "cli/options/tls_options.h"
#include "cli/options/trace_options.h"
#include "cli/process/kv_memory.h"
#include "exchange/link/frame_mac.h"
#include "kernels/attention/kv_format.h"
#include "kernels/linear/quantized_rows.h"
#include "model/lm_head.h"
#include "model/repack/file_linear.h"
#include "router/schedule/speculation/speculator.h"

namespace sheaf {

// How activations travel between the router and its workers.
enum class TransportKind {
  kAuto,          // shared memory to the workers of the router's host, TCP to the others
  kSharedMemory,  // all of them are on the router's host
  kTcp,
  kInProcess,  // they are threads of the router
};

// How router and workers wait for each other (exchange/link/exchange_wait.h); kAuto: as who shares
// cores with whom asks for.
enum class WaitKind { kAuto, kSpin, kYield, kSleep };
const char* NameOf(WaitKind kind);  // as --exchange-wait takes it

const char* NameOf(TransportKind kind);  // as --transport takes it

struct RouterOptions {
  ProcessOptions process;
  std::string host = "127.0.0.1";               // address that HTTP and gRPC listen on
  int port = 8000;                              // HTTP; 0 = a free port
  int grpc_port = 50051;                        // gRPC; 0 = a free port
  ClientTlsOptions tls;                         // of both
  int max_connections = 16384;                  // of each of the two
  PoolOptions pool;
  std::string coordinator;                      // host:port of one outside; empty = inside
  std::vector<std::string> allowed_origins;     // of web pages, "*" = all; empty = own pages only
  std::vector<std::string> served_model_names;  // empty = the checkpoint's folder name
  int64_t max_model_len = 0;          // prompt + output tokens; 0 = what model and KV cache allow
  int max_num_seqs = 64;              // sequences in a step
  int max_num_batched_tokens = 2048;  // tokens in a step
  double target_step_ms = 0;          // of a step with decodes and prompts; 0 = by the decodes
  int max_num_queued_requests = 1024;  // waiting choices before 503 / RESOURCE_EXHAUSTED
  int64_t max_num_queued_tokens = int64_t{1} << 24;  // of those; 4 bytes each
  int64_t max_preparing_bytes = int64_t{256} << 20;  // of request bodies in memory
  LmHeadDtype lm_head = LmHeadDtype::kAuto;
  kernels::KvFormat kv_format = kernels::KvFormat::kBF16;
  // of what products with integer weights read
  kernels::ActivationBits activation_bits = kernels::ActivationBits::k16;
  int64_t kv_cache_memory_bytes = int64_t{1} << 30;  // kAutoKvMemory = what is left
  int block_size = 16;  // tokens a KV block
  int64_t kv_offload_bytes = 0;   // of evicted blocks that are kept; 0 = none are
  std::string kv_offload_path;    // directory of the file that holds them; empty = memory
  bool enable_prefix_caching = true;  // prompts share what was computed of equal beginnings
  std::optional<uint64_t>
      seed;               // of the seeds given to requests that have none; absent = from the system
  int max_logprobs = 20;  // -1 = the whole vocabulary
  // Compute threads; 0 = the cores that the process may use (base/cpu_topology.h).
  int threads = 0;         // of the router
  int worker_threads = 0;  // of each worker started here
  std::vector<std::string> worker_devices = {"cpu"};  // of these, in turn: "cpu" or "cuda:N"
  // Processes that share attention, this one included; the others are `sheaf attention`.
  int tensor_parallel_size = 1;
  bool whole_latents = false;  // on each of them, of latent attention with an indexer
  int attention_port = 50053;  // where they join, on the cluster's host; 0 = a free port
  // without a rank's part of a step (and 20 more a token): it is lost
  int attention_timeout_ms = 2000;
  bool numa = false;  // of `sheaf serve`: a NUMA node for each rank and worker
  // What `sheaf serve` and `sheaf router` know of where the workers are; no flags.
  bool workers_are_here = false;    // on this machine, children of this process
  bool experts_share_cores = true;  // with this process
  std::vector<NodeLoad> node_loads;  // of processes bound to NUMA nodes; none: nobody is
  TransportKind transport = TransportKind::kAuto;
  FrameIntegrity exchange_integrity = FrameIntegrity::kMac;  // of frames over TCP; the workers' too
  // for workers; of those started here, for it
  WaitKind exchange_wait = WaitKind::kAuto;
  int expert_timeout_ms = 5000;  // without any answer in a layer (and 20 more a token): given up
  int late_floor_ms = 25;        // no answer is held for late before this
  bool int16_combine = false;    // answers as int16 groups: half the bytes
  double verify_share = 0;       // of pairs that are asked twice and compared
  int shutdown_timeout_ms = 10000;  // running requests may finish for this long after SIGTERM
  std::string ready_file;           // written when ready; empty = none
  bool access_log = true;    // a line for each request
  TraceOptions traces;
  bool vllm_metrics = true;  // aliases at /metrics
  int metrics_keys = 32;     // fairness keys with figures of their own; 0 = no figures by key
  SpeculationOptions speculation{};  // by prompt lookup; off

  std::string tool_call_parser = "auto";  // auto, glm45, glm47, none
  std::string reasoning_parser = "auto";  // the same
  std::string reasoning_fields = "both";  // both, reasoning, reasoning_content
  bool trust_request_chat_template = false;
  bool escape_special_tokens = false;
  bool json_any_whitespace = false;

  bool ui = false;      // the page at /; without the flag on where `host` is loopback
  std::string ui_file;  // to serve instead of the built-in page; empty = that one
};

struct WorkerOptions {
  ProcessOptions process;
  std::string coordinator;                         // host:port of the pool's coordinator
  std::string cluster_token_file;                  // the pool's token; empty = none
  ClusterTlsOptions tls;                           // towards the coordinator
  std::string host = "127.0.0.1";                  // address that /metrics listens on
  int metrics_port = 0;                            // 0 = a free port
  MetricsTlsOptions metrics_tls;
  int worker_threads = 0;                          // 0 = cores that it may use
  int id = -1;                                     // wanted worker id; -1 = any free one
  std::string device = "cpu";                      // or "cuda:N": where experts are computed
  // of it, for experts; 0 = no bound, or what is free
  uint64_t memory_bytes = 0;
  bool spare = false;                              // holds nothing until another is lost
  TransportKind transport = TransportKind::kAuto;  // the routers'; not kInProcess
  // address that TCP links use; empty = the one towards the coordinator
  std::string exchange_host;
  std::string exchange_interface;  // its address instead, e.g. eth1
  int first_exchange_port = 0;     // 0 = any free one
  int last_exchange_port = 0;
  FrameIntegrity exchange_integrity = FrameIntegrity::kMac;  // of frames over TCP; the routers' too
  WaitKind exchange_wait = WaitKind::kAuto;                  // for routers
};

struct AttentionOptions {
  ProcessOptions process;
  std::string router;              // host:port of its --attention-port
  int rank = 1;                    // of 1 .. --tensor-parallel-size - 1
  std::string cluster_token_file;  // the pool's token; empty = none
  ClusterTlsOptions tls;           // towards the router
  std::string host = "127.0.0.1";  // address that /metrics listens on
  int metrics_port = 0;            // 0 = a free one
  MetricsTlsOptions metrics_tls;
  int threads = 0;                 // compute threads; 0 = cores that it may use
  TransportKind transport = TransportKind::kAuto;            // the router's; not kInProcess
  FrameIntegrity exchange_integrity = FrameIntegrity::kMac;  // of frames over TCP; the router's too
};

struct InspectOptions {
  std::string checkpoint;
  bool json = false;
  int workers = 1;  // to divide the experts among
  // Of attention ranks; the memory of each is told when any of these is given.
  int tensor_parallel_size = 0;         // 0 = not asked, as 1
  int64_t max_model_len = 0;            // tokens in the KV cache; 0 = the model's
  LmHeadDtype lm_head = LmHeadDtype::kAuto;  // as a router takes it
  std::string kv_cache_dtype = "auto";  // the same
  std::string latent_cache = "split";   // the same
  uint64_t device_memory_bytes = 0;     // of each; 0 = not asked
  // What a rank or a worker reads a second, in bytes; how long a step would take is told when it is
  // given.
  uint64_t memory_bandwidth = 0;
  uint64_t worker_memory_bandwidth = 0;  // of a worker, where it is another; 0 = the same
  uint64_t multiply_adds = 0;   // a second, of each; 0 = never the bound
  uint64_t link_bandwidth = 0;  // of each, bytes a second; 0 = they are of one host
  double link_latency_us = 5;   // one way
  bool shared_cores = false;    // ranks and workers have the same cores
};

struct DevicesOptions {
  std::string nccl_library;  // "libnccl.so.2" or a path; empty = NCCL is not looked at
  int timeout_ms = 10000;    // of making a communicator
};

struct VerifyOptions {
  std::string checkpoint;
  bool json = false;
  bool reference = false;        // compare with the scalar kernels too
  int rows = 16;                 // of each Linear that are compared
  std::optional<uint64_t> seed;  // of the rows and activations; absent = from the system
  int threads = 0;               // 0 = cores that it may use
};

struct RepackOptions {
  std::string checkpoint;
  std::string output;  // a directory that does not exist yet
  RepackFormat format = RepackFormat::kGptq;
};

struct AskOptions {
  std::string grpc = "127.0.0.1:50051";
  DialTlsOptions tls;
  std::string question;
  int max_tokens = 128;
  double temperature = 0.0;
  bool raw = false;  // complete the text as it is, without the chat template
  bool no_thinking = false;
  bool show_thoughts = false;  // where stdout is no terminal, too
  int timeout_ms = 120000;
};

struct ChatOptions {
  std::string grpc = "127.0.0.1:50051";
  DialTlsOptions tls;
  std::string system;                 // system message; empty = none
  int max_tokens = 0;                 // of an answer; 0 = what is left of the context
  std::optional<double> temperature;  // absent = the checkpoint's
  bool no_thinking = false;
  bool show_thoughts = false;  // where stdout is no terminal, too
  int timeout_ms = 600000;     // of an answer
};

struct TopOptions {
  std::string http = "127.0.0.1:8000";  // a router's HTTP address
  DialTlsOptions tls;
  double interval_s = 1;                // between two frames
  bool once = false;                    // one frame, then the end
  int timeout_ms = 5000;                // of an answer
};

struct ServeCommand {
  RouterOptions options;
};  // router + worker children
struct RouterCommand {
  RouterOptions options;
};  // router alone; workers join by address
struct WorkerCommand {
  WorkerOptions options;
};
struct AttentionCommand {
  AttentionOptions options;
};
struct InspectCommand {
  InspectOptions options;
};
struct DevicesCommand {
  DevicesOptions options;
};
struct VerifyCommand {
  VerifyOptions options;
};
struct RepackCommand {
  RepackOptions options;
};
struct AskCommand {
  AskOptions options;
};
struct ChatCommand {
  ChatOptions options;
};
struct CoordinatorCommand {
  CoordinatorCommandOptions options;
};
struct PoolCommand {
  PoolCommandOptions options;
};
struct TopCommand {
  TopOptions options;
};
struct HelpText {
  std::string text;
};

using Command = std::variant<ServeCommand, RouterCommand, WorkerCommand, AttentionCommand,
                             InspectCommand, DevicesCommand, VerifyCommand, RepackCommand,
                             AskCommand, ChatCommand, CoordinatorCommand, PoolCommand, TopCommand,
                             HelpText>;

absl::StatusOr<Command> ParseCommandLine(int argc, const char* const* argv);

}  // namespace sheaf
