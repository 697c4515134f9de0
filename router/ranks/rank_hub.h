#pragma once
// RankHub: where the other attention ranks of this router join: a gRPC port
// (sheaf.v1.AttentionRanks) that says who may be one, and a listener for their links. What they
// compute together is HubRanks'.
//
//   Join (gRPC, lasts as long as the process)  ->  settings, addresses, the link's key
//   hello over a link                          ->  HubRanks::Offer
//
// A process that dies ends its call: its place is free at once. One that hangs is given up when it
// is late in a step; its place is free too, and whoever started it may start it again
// (TakeHungPids).
//
// Threads    ranks(): the step thread, as link_ranks.h says; the rest: any.
// Ownership  borrows links and clock.
// Errors     Start: kUnavailable: the port cannot be had; what listening says.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "exchange/gather/link_ranks.h"
#include "exchange/link/link_maker.h"
#include "exchange/model_identity.h"
#include "network/tls/tls_identity.h"
#include "router/ranks/rank_settings.h"

namespace sheaf {

struct RankHubOptions {
  RankSettings settings;
  ModelIdentity model;
  std::string token;  // empty: none is wanted
  std::shared_ptr<TlsIdentity> tls = nullptr;
  std::string host;
  int port = 0;          // 0: any free one
  InstanceId instance;   // random for this process's life
  LinkSecret secret{};   // the same
  std::string machine;   // this one's name, as its processes tell it
  RankPatience patience{};
};

class RankHub {
 public:
  static absl::StatusOr<std::unique_ptr<RankHub>> Start(const RankHubOptions& options,
                                                        LinkMaker& links, const Clock& clock);
  ~RankHub();

  HubRanks& ranks();
  const std::string& address() const;  // host:port, bound
  // Called when a rank has come or gone. Not from the step thread.
  void SetOnChange(std::function<void()> on_change);
  // Process ids on this host of ranks that did not answer in time. Each once.
  std::vector<int> TakeHungPids();
  // Those of ranks that are linked now.
  std::vector<int> LinkedPids() const;
  void Stop();

 private:
  class Life;
  explicit RankHub(std::unique_ptr<Life> life);
  std::unique_ptr<Life> life_;
};

}  // namespace sheaf
