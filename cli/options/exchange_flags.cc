#include "cli/options/exchange_flags.h"

#include <CLI/CLI.hpp>
#include <map>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "cli/options/one_of.h"

namespace sheaf {

namespace {

const std::map<std::string, TransportKind> kTransports = {
    {NameOf(TransportKind::kAuto), TransportKind::kAuto},
    {NameOf(TransportKind::kSharedMemory), TransportKind::kSharedMemory},
    {NameOf(TransportKind::kTcp), TransportKind::kTcp},
    {NameOf(TransportKind::kInProcess), TransportKind::kInProcess},
};

}  // namespace

void AddIntegrityFlag(CLI::App& app, FrameIntegrity& integrity) {
  const std::map<std::string, FrameIntegrity> kinds = {{"mac", FrameIntegrity::kMac},
                                                       {"none", FrameIntegrity::kNone}};
  app.add_option("--exchange-integrity", integrity,
                 "Frames between routers and workers over TCP: mac (each is authenticated) or "
                 "none; the same on both sides. Shared memory has none")
      ->transform(OneOf(kinds))
      ->default_str(NameOf(integrity));
}

void AddWaitFlag(CLI::App& app, WaitKind& wait) {
  std::map<std::string, WaitKind> kinds;
  for (const WaitKind kind :
       {WaitKind::kAuto, WaitKind::kSpin, WaitKind::kYield, WaitKind::kSleep}) {
    kinds[NameOf(kind)] = kind;
  }
  app.add_option("--exchange-wait", wait,
                 "How router and worker wait for each other within a step: spin (200 us, threads "
                 "awake; with cores of "
                 "their own), yield (60 us, giving way to whoever is ready on the core), sleep (at "
                 "once; with more "
                 "compute threads than cores) or auto: `sheaf serve` knows which, others yield")
      ->transform(OneOf(kinds))
      ->default_str(NameOf(wait));
}

void AddRouterTransportFlag(CLI::App& app, TransportKind& transport) {
  app.add_option("--transport", transport,
                 "Between router and workers: auto (shared memory within a host, TCP between "
                 "hosts), shm, tcp, or inprocess (workers are threads of this process)")
      ->transform(OneOf(kTransports))
      ->default_str(NameOf(transport));
}

void AddWorkerTransportFlag(CLI::App& app, TransportKind& transport) {
  std::map<std::string, TransportKind> between_processes = kTransports;
  between_processes.erase(NameOf(TransportKind::kInProcess));
  app.add_option("--transport", transport,
                 "What routers may reach it by: auto (shared memory and TCP), shm or tcp")
      ->transform(OneOf(between_processes))
      ->default_str(NameOf(transport));
}

absl::Status ReadPorts(const std::string& text, int& first, int& last) {
  if (text.empty()) return absl::OkStatus();
  const size_t dash = text.find('-');
  const std::string begin = text.substr(0, dash);
  const std::string end = dash == std::string::npos ? begin : text.substr(dash + 1);
  if (absl::SimpleAtoi(begin, &first) && absl::SimpleAtoi(end, &last) && first >= 1 &&
      first <= last && last <= 65535) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrFormat("--exchange-ports: wanted FIRST-LAST within 1..65535, got \"%s\"", text));
}

}  // namespace sheaf
