#pragma once
// RouterProcess builds every real object of a router and connects them: checkpoint, text, weights,
// KV cache, decoder, engine, experts (here or behind the exchange), cluster port, gRPC and HTTP.
//
// Start() checks the checkpoint and returns when both ports answer. The weights are loaded by a
// thread of its own meanwhile: until they are there HTTP says how far it is, and gRPC's services
// are NOT_SERVING; then until the experts are there they say what is missing (ready()). To stop:
// Drain, then end the workers (they take leave at the cluster port), then Stop.
//
// Threads    Start, Drain, Stop: the owner's thread; the rest: any.
// Errors     Start: a checkpoint that cannot be served, a port that is taken. failure(): memory, a
//            file that cannot be read. One status that names it.
// Cost       Stop waits for what is being loaded: a process that only loads has nothing to stop.

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "cli/options/options.h"

namespace sheaf {

class RouterProcess {
 public:
  static absl::StatusOr<std::unique_ptr<RouterProcess>> Start(const RouterOptions& options);
  ~RouterProcess();
  RouterProcess(const RouterProcess&) = delete;
  RouterProcess& operator=(const RouterProcess&) = delete;

  bool ready() const;
  bool loaded() const;           // the weights are there; for good
  bool live() const;             // as Engine::live; true while it loads
  absl::Status failure() const;  // not OK: they never will be
  // Not OK: a worker cannot load an expert from the files that it has.
  absl::Status broken_checkpoint() const;
  std::string http_address() const;  // host:port
  std::string grpc_address() const;

  std::string cluster_address() const;  // empty: workers do not join here
  std::string attention_address() const;  // empty: a single attention rank

  // Brings the figures of attention ranks up to date; called about every 50 ms.
  void CountRanks();

  // Process ids (as the workers told them) of workers of this host that have been silent for long
  // while their process may still be there: stopped or hanging. Each is returned once.
  std::vector<int> TakeHungPids();

  // Those of attention ranks of this host that compute now.
  std::vector<int> LinkedRankPids() const;

  // Refuses new requests, lets running ones end until the patience is over, closes the HTTP port.
  void Drain(std::chrono::milliseconds patience);
  // Drain(0) if that was not done; ends the pool's sessions and closes the other ports.
  void Stop();

 private:
  RouterProcess();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sheaf
