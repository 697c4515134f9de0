#pragma once
// ClusterController: the router's side of the cluster. One thread takes what sessions, leases and
// the data plane tell, drives the membership, opens the next epoch when every slot is ready and
// closes it at the first loss.
//
// It is the EpochSource of exchange/remote_expert_layer.h: the step thread asks Current() once a
// layer. A loss aborts the link, so a waiting step ends at once with kUnavailable naming the
// worker.
//
// Threads    all public methods, any thread; quick. Observer calls come from the controller's
//            thread.
// Ownership  borrows transport, clock and observer (may be null); they outlive it. Stop() (or the
//            destructor) ends every session; call it before the gRPC server's Shutdown().

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/clock.h"
#include "exchange/model_identity.h"
#include "exchange/remote_expert_layer.h"
#include "exchange/transport.h"
#include "router/cluster/membership.h"
#include "router/cluster/worker_session.h"

namespace sheaf {

struct ClusterOptions {
  int num_workers = 1;  // slots, >= 1
  ModelIdentity model;
  Duration lease = std::chrono::seconds(2);           // without a sign of life a worker is lost
  Duration phase_timeout = std::chrono::seconds(10);  // to prepare and to open an epoch
};

struct ClusterSnapshot {
  bool ready = false;
  Epoch epoch;           // current, or the last one
  int live_workers = 0;  // slots that are not vacant
  std::string text;      // one line for people
  std::vector<Slot> slots;
};

struct LostWorker {
  WorkerId worker;
  MemberInfo member;
  std::string reason;
  bool hung = false;  // silent, perhaps still there: whoever started it should kill it
  bool left = false;  // it said so itself
};

class ClusterObserver {
 public:
  virtual ~ClusterObserver() = default;
  virtual void OnChange(const ClusterSnapshot& /*snapshot*/) {}
  virtual void OnWorkerLost(const LostWorker& /*lost*/) {}
};

class ClusterController final : public EpochSource {
 public:
  ClusterController(ClusterOptions options, Transport& transport, const Clock& clock,
                    ClusterObserver* observer);
  ~ClusterController() override;

  // From sessions.
  void OnOpened(std::shared_ptr<WorkerSession> session);
  void OnMessage(std::shared_ptr<WorkerSession> session, v1::WorkerMessage message);
  void OnClosed(std::shared_ptr<WorkerSession> session);

  // EpochSource.
  absl::StatusOr<OpenEpoch> Current() override;
  void OnFault(Epoch epoch, const LinkFault& fault) override;

  // OK when requests can be run; else kUnavailable with the snapshot's text.
  absl::Status Ready() const;
  ClusterSnapshot snapshot() const;

  void Stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sheaf
