#pragma once
// The --ready-file: {"http": "127.0.0.1:8000", "grpc": "127.0.0.1:50051", "router_pid": 1,
// "workers":
// [{"id": 0, "pid": 2}]}, written once the server answers requests and rewritten when a worker is
// replaced.
//
// The file is replaced as a whole (write beside it, rename), so a reader never sees half of it.
// Errors     kInternal naming the path.

#include <string>
#include <vector>

#include "absl/status/status.h"

namespace sheaf {

struct ReadyInfo {
  std::string http;
  std::string grpc;
  int router_pid = 0;
  struct Worker {
    int id = 0;
    int pid = 0;
  };
  std::vector<Worker> workers;
};

absl::Status WriteReadyFile(const std::string& path, const ReadyInfo& info);

}  // namespace sheaf
