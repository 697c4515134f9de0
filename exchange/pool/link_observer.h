#pragma once
// LinkPoolObserver: state changes of a router's links, for log and metrics. Called from the pool's
// or the step thread with the links locked; must not block nor call the pool.

#include <string>

#include "absl/status/status.h"
#include "base/ids.h"
#include "exchange/layer/expert_table.h"

namespace sheaf {

class LinkPoolObserver {
 public:
  virtual ~LinkPoolObserver() = default;
  virtual void OnLinkUp(WorkerId /*worker*/, const std::string& /*path*/) {}
  virtual void OnLinkDown(WorkerId /*worker*/, const absl::Status& /*why*/) {}
  // Not again for the same reason. kFailedPrecondition: it will not get better by itself.
  virtual void OnConnectFailed(WorkerId /*worker*/, const absl::Status& /*why*/) {}
  virtual void OnCoverage(const ExpertTable::Coverage& /*coverage*/, int /*live_links*/) {}
  virtual void OnLateAnswer(WorkerId /*worker*/) {}  // recognised and dropped
};

}  // namespace sheaf
