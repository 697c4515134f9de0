#pragma once
// WorkerSession: one worker's stream as the controller sees it. gRPC implements it
// (cluster_service.cc); tests have a fake.
//
// Threads    any; no method blocks. After End() nothing more is sent.

#include "absl/status/status.h"
#include "sheaf/v1/cluster.pb.h"

namespace sheaf {

class WorkerSession {
 public:
  virtual ~WorkerSession() = default;
  virtual void Send(v1::RouterMessage message) = 0;
  virtual void End(const absl::Status& status) = 0;
};

}  // namespace sheaf
