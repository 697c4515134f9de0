#include "cli/options/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <sstream>
#include <utility>

#include "base/status.h"
#include "cli/options/attention_flags.h"
#include "cli/options/checkpoint_flags.h"
#include "cli/options/client_flags.h"
#include "cli/options/config_file.h"
#include "cli/options/device_flags.h"
#include "cli/options/pool_flags.h"
#include "cli/options/process_flags.h"
#include "cli/options/router_flags.h"
#include "cli/options/worker_flags.h"

namespace sheaf {

const char* NameOf(WaitKind kind) {
  switch (kind) {
    case WaitKind::kSpin:
      return "spin";
    case WaitKind::kYield:
      return "yield";
    case WaitKind::kSleep:
      return "sleep";
    case WaitKind::kAuto:
      break;
  }
  return "auto";
}

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

absl::StatusOr<Command> ParseCommandLine(int argc, const char* const* argv) {
  CLI::App app(
      "Sheaf serves 4-bit GLM mixture-of-experts checkpoints with a router and expert workers.",
      "sheaf");
  app.require_subcommand(1);
  app.set_version_flag("--version", "sheaf " SHEAF_VERSION);

  RouterOptions serve, router;
  RouterFlagTexts serve_text, router_text;
  WorkerOptions worker;
  InspectOptions inspect;
  VerifyOptions verify;
  RepackOptions repack;
  AskOptions ask;
  ChatOptions chat;

  CLI::App* serve_app = app.add_subcommand("serve", "Router and expert workers on this machine");
  serve.pool.cluster_port = 0;  // its own children are told
  serve.attention_port = 0;
  AddRouterFlags(*serve_app, serve, serve_text);
  serve_app->add_flag(
      "--numa", serve.numa,
      "Attention rank r and worker r run on NUMA node r (modulo the nodes; the router "
      "is rank 0) and take memory from it alone. For machines of several sockets");
  CLI::App* router_app =
      app.add_subcommand("router", "Router alone; workers join at its cluster port");
  AddRouterFlags(*router_app, router, router_text);
  router_app->add_option("--coordinator", router.coordinator,
                         "host:port of the pool's coordinator; default: inside this router");
  AddNumaNodeFlag(*router_app, router.process);

  CLI::App* worker_app = app.add_subcommand("worker", "One expert worker");
  std::string exchange_ports;
  AddWorkerFlags(*worker_app, worker, exchange_ports);

  AttentionOptions attention;
  CLI::App* attention_app = app.add_subcommand(
      "attention", "One attention rank of a router with --tensor-parallel-size");
  AddAttentionFlags(*attention_app, attention);

  CoordinatorCommandOptions coordinator;
  coordinator.pool.cluster_port = 50052;
  CLI::App* coordinator_app = app.add_subcommand(
      "coordinator", "The coordinator of a pool that several routers share, without a router");
  AddCoordinatorFlags(*coordinator_app, coordinator);

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
  AddInspectFlags(*inspect_app, inspect);

  DevicesOptions devices;
  CLI::App* devices_app = app.add_subcommand(
      "devices", "The GPUs of this machine, whether this build can use them, and its NCCL");
  AddDevicesFlags(*devices_app, devices);

  CLI::App* verify_app = app.add_subcommand(
      "verify", "Reads every byte of a checkpoint: digests, NaN, ranges, zero points");
  AddVerifyFlags(*verify_app, verify);

  CLI::App* repack_app = app.add_subcommand(
      "repack", "The same 4-bit weights in another file format, in a new directory");
  AddRepackFlags(*repack_app, repack);

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
    SHEAF_RETURN_IF_ERROR(FinishWorker(worker, exchange_ports));
    return WorkerCommand{std::move(worker)};
  }
  if (attention_app->parsed()) {
    SHEAF_RETURN_IF_ERROR(FinishAttention(attention));
    return AttentionCommand{std::move(attention)};
  }
  if (coordinator_app->parsed()) {
    SHEAF_RETURN_IF_ERROR(FinishCoordinator(coordinator));
    return CoordinatorCommand{std::move(coordinator)};
  }
  if (pool_app->parsed()) {
    SHEAF_RETURN_IF_ERROR(FinishPoolCommand(pool));
    return PoolCommand{std::move(pool)};
  }
  if (top_app->parsed()) return TopCommand{std::move(top)};
  if (inspect_app->parsed()) return InspectCommand{std::move(inspect)};
  if (devices_app->parsed()) return DevicesCommand{std::move(devices)};
  if (verify_app->parsed()) return VerifyCommand{std::move(verify)};
  if (repack_app->parsed()) return RepackCommand{std::move(repack)};
  if (chat_app->parsed()) return ChatCommand{std::move(chat)};
  return AskCommand{std::move(ask)};
}

}  // namespace sheaf
