#pragma once
// SimulatedWorker: an expert worker: the real membership (worker/session/worker_state), the real
// plan of what to load, announce and drop (worker/holdings/holding_plan), over a simulated disk,
// session and links; it computes one dispatch at a time, links in turn, as worker/serve/link_server
// does.
//
// Threads    one.

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "exchange/link/link_handshake.h"
#include "tests/simulation/messages.h"
#include "tests/simulation/simulated_disk.h"
#include "tests/simulation/world.h"
#include "worker/holdings/holding_plan.h"
#include "worker/session/worker_state.h"

namespace sheaf::simulation {

struct SimulatedWorkerOptions {
  int preferred_id = -1;
  uint64_t memory_bytes = 0;
  bool spare = false;
  Duration per_unit = std::chrono::microseconds(60);  // of compute
  DiskState disk;
  int lanes = 1;
};

class SimulatedWorker {
 public:
  SimulatedWorker(World& world, int host, const SimulatedWorkerOptions& options);
  ~SimulatedWorker();

  Process& process() { return process_; }
  InstanceId instance() const { return instance_; }
  const SimulatedWorkerOptions& options() const { return options_; }

  void Start();  // a new process
  void Kill();
  void Stop();  // SIGTERM

  // Faults. Times `factor` for everything that it computes.
  void SetSlow(double factor) { slow_ = factor; }
  void SetErrorChance(double chance) { error_chance_ = chance; }
  DiskState& disk_state() { return options_.disk; }
  // A bit of that expert's weights flips. False: it is not here.
  bool Corrupt(const LayerExpert& pair);
  void CorruptAny(Random& random);
  int num_corrupted() const;
  bool Has(const LayerExpert& pair) const;
  size_t num_held() const;
  bool stopping() const { return stopping_; }
  // Asked to stop while it has no session, so that no coordinator can have heard of it.
  bool leaves_unheard() const;
  bool quiet() const;

 private:
  struct Copy {
    uint64_t weights = 0;
    bool corrupted = false;
  };
  struct Link {
    ChannelPtr channel;
    LinkId id;
    InstanceId router;
    uint64_t told = 0;
    uint64_t seen = 0;
    std::deque<std::shared_ptr<const FrameMessage>> queue;
  };
  // What ends with the process.
  struct Life;

  void Accept(const ChannelPtr& channel);
  void TakeHello(const ChannelPtr& channel, const MessagePtr& message);
  static void AnswerHello(Channel& channel, const WorkerHandshake& handshake, HelloVerdict verdict);
  void TakeProof(const ChannelPtr& channel, WorkerHandshake& handshake, const MessagePtr& message);
  void TakeFrame(const std::shared_ptr<Link>& link, const MessagePtr& message);
  void DropLink(const std::shared_ptr<Link>& link);
  void LinksChanged();
  void TellSeen();
  void TellHoldings(Link& link);
  void Serve();
  void Answer(const std::shared_ptr<Link>& link, const FrameMessage& dispatch,
              const std::vector<std::pair<int32_t, std::shared_ptr<Copy>>>& copies);

  void LoadSoon();
  void Load();
  void Loaded(const LayerExpert& pair, const absl::Status& status);
  void Drop(const LayerExpert& pair);
  void LetGo(std::shared_ptr<Copy> copy);
  void FreeWhatNobodyReads();
  void CheckMemory();
  void FactsChanged();
  void HoldFailed(uint64_t number, const LayerExpert& pair, const absl::Status& why);

  void TickSoon();
  void Tick();
  void Do(WorkerAction action);
  void Connect();
  void Understand(const v1::ToWorker& message);
  void SendHoldingsNews();

  World& world_;
  SimulatedWorkerOptions options_;
  Process process_;
  Random random_;
  InstanceId instance_;
  LinkSecret secret_{};
  double slow_ = 1;
  double error_chance_ = 0;
  bool stopping_ = false;
  std::unique_ptr<Life> life_;
};

}  // namespace sheaf::simulation
