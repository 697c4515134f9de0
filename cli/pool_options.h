#pragma once
// What `sheaf coordinator` and `sheaf pool` can be told.

#include <cstdint>
#include <string>

#include "cli/process_options.h"

namespace sheaf {

struct CoordinatorCommandOptions {
  ProcessOptions process;
  int workers = 0;             // expected to join before the first plan; 0 = who is there after 10 s
  double expert_replicas = 1;  // wanted holders an expert, [1, 64]
  std::string cluster_host = "127.0.0.1";  // address that workers, routers and operators reach
  int cluster_port = 50052;                // 0 = a free port
  std::string cluster_token_file;          // its first line is what a join needs; empty = nothing
  int lease_ms = 2000;                     // a worker without a sign of life for this long is lost
  std::string host = "127.0.0.1";          // address that /metrics listens on
  int metrics_port = 0;                    // 0 = a free port
};

struct PoolCommandOptions {
  enum class Action { kStatus, kDrain, kUndrain, kReplicas, kRebalance };
  Action action = Action::kStatus;
  int worker = 0;        // of drain and undrain
  double replicas = 1;   // of replicas
  std::string coordinator = "127.0.0.1:50052";  // host:port
  std::string cluster_token_file;
  bool json = false;      // status as JSON
  int timeout_ms = 5000;  // of the answer
};

}  // namespace sheaf
