#pragma once
// What can be told of a pool: to whoever has its coordinator inside, to `sheaf coordinator` and to
// `sheaf pool`.

#include <cstdint>
#include <string>

#include "cli/options/process_options.h"
#include "cli/options/tls_options.h"

namespace sheaf {

// The pool of expert workers, for whoever has its coordinator inside.
struct PoolOptions {
  int workers = 1;               // expected; 0 = experts in this process
  double expert_replicas = 1;    // holders of an expert; a fraction: the hottest have one more
  std::string cluster_host;      // address that workers and other routers reach; empty = --host
  int cluster_port = 50052;      // 0 = a free one
  std::string cluster_token_file;  // whose contents a worker or router must present; empty = none
  ClusterTlsOptions tls;
  int lease_ms = 2000;           // a worker without a sign of life for this long is lost
};

struct CoordinatorCommandOptions {
  ProcessOptions process;
  PoolOptions pool;
  std::string host = "127.0.0.1";  // address that /metrics listens on
  int metrics_port = 0;            // 0 = a free one
  MetricsTlsOptions metrics_tls;
  std::string ready_file;          // written when it listens; empty = none
};

struct PoolCommandOptions {
  enum class Action { kStatus, kDrain, kUndrain, kReplicas, kRebalance };
  Action action = Action::kStatus;
  int worker = 0;        // of drain and undrain
  double replicas = 1;   // of replicas
  std::string coordinator = "127.0.0.1:50052";  // host:port
  std::string cluster_token_file;
  ClusterTlsOptions tls;  // as a process of the cluster has it; or
  DialTlsOptions dial;    // as a client has it, the coordinator known by the name of its host
  bool json = false;      // status as JSON
  int timeout_ms = 5000;  // of the answer
};

}  // namespace sheaf
