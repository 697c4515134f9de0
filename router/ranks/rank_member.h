#pragma once
// RankMember: the life of an attention rank other than 0: joins the router, loads its share of the
// weights, computes the steps that the router begins, and joins again when the router or the link
// is gone.
//
// Memory     its share of the weights stays as long as the number of ranks and --lm-head-dtype
//            do; the KV cache and the scratch are made anew for each group, since what they held
//            is of no use to it.
// Threads    Run: one thread, once; it is the step thread. Stop, state: any.
// Ownership  borrows checkpoint, config, pool, links and metrics.
// Errors     Run ends OK after Stop. kFailedPrecondition, kUnauthenticated, kInvalidArgument: the
//            router refuses it for good, and the text says what to do; what loading says. Anything
//            else is tried again.

#include <atomic>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "base/clock.h"
#include "base/thread_pool.h"
#include "exchange/link/link_maker.h"
#include "exchange/model_identity.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/decoder_weights.h"
#include "network/tls/tls_identity.h"
#include "router/ranks/rank_member_metrics.h"
#include "router/ranks/rank_settings.h"

namespace sheaf {

struct RankMemberOptions {
  std::string router;  // host:port of its --attention-port
  std::string token;   // empty: none
  std::shared_ptr<TlsIdentity> tls = nullptr;
  ModelIdentity model;
  int rank = 1;
  InstanceId instance;  // random for this process's life
  std::string host;
  int64_t pid = 0;
  std::string version;
  Duration first_back_off = std::chrono::milliseconds(50);
  Duration max_back_off = std::chrono::seconds(2);
  Duration connect_patience = std::chrono::seconds(5);
};

class RankMember {
 public:
  RankMember(RankMemberOptions options, const Checkpoint& checkpoint, const ModelConfig& config,
             ThreadPool& pool, LinkMaker& links, RankMemberMetrics& metrics);

  absl::Status Run();
  void Stop() { stopping_.store(true); }

 private:
  class Call;

  // One group, from the call to its end.
  absl::Status Belong();
  absl::Status Load(const RankSettings& settings);
  absl::Status Compute(const RankSettings& settings, std::unique_ptr<FrameLink> link, Bell& bell,
                       const Call& call);

  const RankMemberOptions options_;
  const Checkpoint& checkpoint_;
  const ModelConfig& config_;
  ThreadPool& pool_;
  RankMemberMetrics& metrics_;
  const std::unique_ptr<LinkConnector> connector_;
  int num_ranks_ = 0;  // that the weights are for
  LmHeadDtype lm_head_ = LmHeadDtype::kAuto;  // the same
  std::unique_ptr<DecoderWeights> weights_;
  bool computed_ = false;  // in this group
  std::atomic<bool> stopping_{false};
};

}  // namespace sheaf
