#include "cli/router/data_plane.h"

#include <sys/socket.h>

#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "base/check.h"
#include "base/host_port.h"
#include "base/status.h"
#include "cli/process/own_address.h"
#include "exchange/link/reach_link_maker.h"
#include "exchange/shared_memory/shared_memory_links.h"
#include "exchange/tcp/tcp_address.h"
#include "exchange/tcp/tcp_links.h"

namespace sheaf {
namespace {

std::unique_ptr<LinkMaker> MakeLinks(TransportKind kind, TcpOptions tcp) {
  SHEAF_CHECK(kind != TransportKind::kInProcess, "threads of one process need no such mover");
  if (kind == TransportKind::kSharedMemory) return std::make_unique<SharedMemoryLinkMaker>();
  if (kind == TransportKind::kTcp) return std::make_unique<TcpLinkMaker>(std::move(tcp));
  std::vector<std::unique_ptr<LinkMaker>> makers;  // best first
  makers.push_back(std::make_unique<SharedMemoryLinkMaker>());
  makers.push_back(std::make_unique<TcpLinkMaker>(std::move(tcp)));
  return std::make_unique<ReachLinkMaker>(std::move(makers));
}

}  // namespace

ExchangeWait WaitOf(WaitKind kind) {
  switch (kind) {
    case WaitKind::kSpin:
      return ExchangeWait::Spin();
    case WaitKind::kSleep:
      return ExchangeWait::Sleep();
    case WaitKind::kYield:
    case WaitKind::kAuto:
      break;
  }
  return ExchangeWait::Yield();
}

std::unique_ptr<LinkMaker> MakeRouterLinks(TransportKind kind, FrameIntegrity integrity) {
  TcpOptions tcp;
  tcp.integrity = integrity;
  return MakeLinks(kind, std::move(tcp));
}

absl::StatusOr<std::unique_ptr<LinkMaker>> MakeWorkerLinks(const WorkerOptions& options) {
  TcpOptions tcp;
  tcp.first_port = options.first_exchange_port;
  tcp.last_port = options.last_exchange_port;
  tcp.integrity = options.exchange_integrity;
  if (!options.exchange_host.empty()) {
    tcp.host = options.exchange_host;
  } else if (!options.exchange_interface.empty()) {
    absl::StatusOr<std::string> address = AddressOfInterface(options.exchange_interface, AF_INET);
    if (!address.ok()) address = AddressOfInterface(options.exchange_interface, AF_INET6);
    SHEAF_ASSIGN_OR_RETURN(tcp.host, std::move(address));
  } else if (options.transport != TransportKind::kSharedMemory) {
    // Where the coordinator is reached, routers are: not on a bridge of this host alone.
    SHEAF_ASSIGN_OR_RETURN(tcp.host, OwnAddressTowards(options.coordinator));
  }
  return MakeLinks(options.transport, std::move(tcp));
}

absl::StatusOr<std::unique_ptr<LinkMaker>> MakeRankLinks(TransportKind kind,
                                                         FrameIntegrity integrity,
                                                         const std::string& host) {
  // of the workers alone
  if (kind == TransportKind::kInProcess) kind = TransportKind::kSharedMemory;
  TcpOptions tcp;
  tcp.host = WithoutBrackets(host);
  tcp.integrity = integrity;
  if (kind != TransportKind::kSharedMemory && !TcpAddress::FromHost(tcp.host, 0).ok()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("--cluster-host, or without it --host: wanted an address rather than a "
                        "name, since attention ranks are linked to it by "
                        "TCP (--transport %s), got \"%s\"",
                        NameOf(kind), host));
  }
  if (IsWildcardHost(tcp.host)) tcp.advertised_host = tcp.host;
  return MakeLinks(kind, std::move(tcp));
}

}  // namespace sheaf
