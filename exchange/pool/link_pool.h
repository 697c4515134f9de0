#pragma once
// LinkPool: a router's links to all workers of the pool. A thread of its own connects, says hello,
// reconnects with back-off, and while no step runs takes what workers announce; a link that is
// broken, slow or refused concerns that worker alone. What a live link's worker holds is in table().
//
// During a step the step thread has the links to itself: it Locks the pool from the first dispatch
// to the last answer of a layer, sends, receives, and lets go. The pool's thread touches a link only
// with the same lock.
//
//   SetWorkers   from the coordinator: who should be linked. A worker that is not listed any more keeps
//                its link while that lives: a coordinator that forgot somebody takes nothing away.
//
// Threads    SetWorkers, Ready, snapshot: any. The Locked part: the holder of the lock.
// Ownership  owns links and bell; borrows connector, clock and observer.
// Errors     Ready: kUnavailable naming layer and expert nobody holds, and what is wrong with whom.
// Waits      connecting: connect_timeout each; back-off first_back_off .. max_back_off, with jitter.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/ids.h"
#include "exchange/layer/answer_times.h"
#include "exchange/layer/expert_table.h"
#include "exchange/link/bell.h"
#include "exchange/link/frame_link.h"
#include "exchange/link/link_maker.h"
#include "exchange/model_identity.h"

namespace sheaf {

struct WorkerEndpoint {
  WorkerId worker;
  InstanceId instance;
  std::vector<std::string> addresses;
  LinkSecret secret{};
  std::string name;  // for the log: "pid 12 on host a"
};

struct LinkPoolOptions {
  ModelIdentity model;
  InstanceId router;
  Duration connect_timeout = std::chrono::seconds(2);
  Duration first_back_off = std::chrono::milliseconds(20);
  Duration max_back_off = std::chrono::seconds(2);
  // An answer that is outstanding for this long ends the link: the worker hangs, or the path is
  // gone without a word. More for a dispatch that takes long (AnswerTimes::Expected times 20).
  Duration silence = std::chrono::seconds(2);
};

// State changes, for log and metrics. Called from the pool's or the step thread; must not block.
class LinkPoolObserver {
 public:
  virtual ~LinkPoolObserver() = default;
  virtual void OnLinkUp(WorkerId /*worker*/, const std::string& /*path*/) {}
  virtual void OnLinkDown(WorkerId /*worker*/, const absl::Status& /*why*/) {}
  virtual void OnCoverage(const ExpertTable::Coverage& /*coverage*/, int /*live_links*/) {}
  virtual void OnLateAnswer(WorkerId /*worker*/) {}  // recognised and dropped
};

}  // namespace sheaf
