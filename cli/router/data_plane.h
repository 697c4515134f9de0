#pragma once
// The byte movers that --transport names, built.
//
// Errors     kInvalidArgument: an interface without an address.

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "cli/options/options.h"
#include "exchange/link/exchange_wait.h"
#include "exchange/link/link_maker.h"

namespace sheaf {

// kAuto: where nobody knows better, as if cores were shared.
ExchangeWait WaitOf(WaitKind kind);
// A router's: it connects. Not for kInProcess, which needs no other process. `integrity`: of TCP.
std::unique_ptr<LinkMaker> MakeRouterLinks(TransportKind kind, FrameIntegrity integrity);

// A worker's: it listens; TCP where its options say.
absl::StatusOr<std::unique_ptr<LinkMaker>> MakeWorkerLinks(const WorkerOptions& options);

// Rank 0's towards the other attention ranks: it listens, for TCP on `host`. Of a wildcard they are
// told the wildcard and put the address by which they have reached this process in its place.
// kInvalidArgument: a name, naming the flags.
absl::StatusOr<std::unique_ptr<LinkMaker>> MakeRankLinks(TransportKind kind,
                                                         FrameIntegrity integrity,
                                                         const std::string& host);

}  // namespace sheaf
