#pragma once
// RemoteExpertLayer: ExpertLayer over a transport. Begin plans, packs and posts one dispatch a
// worker; Finish waits for the combines and adds them in expert order: the bits are those of
// LocalExpertLayer.
//
// A batch longer than chunk_tokens goes in parts, one after the other, to bound the combine's
// memory (chunk_tokens * top_k * hidden * 4 bytes in all). The first error poisons the epoch: the
// link is closed, the source is told who is suspect, and every call fails until the source has a
// new epoch. Experts are stateless, so the same batch may be begun again then.
//
// Threads    one step thread. Before it waits it parks the pool: a spinning thread would hold a
//            worker's core.
// Ownership  borrows source and pool; they outlive it.
// Errors     as exchange/expert_layer.h; messages name worker, layer, step, epoch.

#include <memory>
#include <vector>

#include "base/thread_pool.h"
#include "exchange/byte_buffer.h"
#include "exchange/dispatch_plan.h"
#include "exchange/expert_layer.h"
#include "exchange/transport.h"

namespace sheaf {

struct OpenEpoch {
  std::shared_ptr<RouterLink> link;
  std::shared_ptr<const ExpertPlacement> placement;
};

// Where the current epoch comes from (router/cluster).
class EpochSource {
 public:
  virtual ~EpochSource() = default;
  // Quick: once a layer. kFailedPrecondition: none was ever open; kUnavailable: naming the worker
  // that is missing.
  virtual absl::StatusOr<OpenEpoch> Current() = 0;
  // The link of this epoch is poisoned and closed. Must not block.
  virtual void OnFault(Epoch epoch, const LinkFault& fault) = 0;
};

struct RemoteExpertLayerOptions {
  Duration base_timeout = std::chrono::seconds(2);  // a worker's silence in one layer ...
  Duration timeout_per_token =
      std::chrono::milliseconds(20);  // ... more for each token it was sent
  int chunk_tokens = 512;             // [1, 65536]
};

// Sums since the last TakeTotals().
struct ExchangeTotals {
  Duration dispatch{0};  // planning, packing, posting
  Duration combine{0};   // waiting and adding
  struct Worker {
    WorkerId worker;
    int64_t sent_bytes = 0;
    int64_t received_bytes = 0;
    int64_t pairs = 0;
  };
  std::vector<Worker> workers;  // by ascending id
};

class RemoteExpertLayer final : public ExpertLayer {
 public:
  RemoteExpertLayer(EpochSource& source, ThreadPool& pool,
                    const RemoteExpertLayerOptions& options = {});

  absl::Status Begin(const RoutedBatch& batch) override;
  absl::Status Finish(float* sum) override;

  // From the step thread, e.g. once a step.
  ExchangeTotals TakeTotals();

 private:
  absl::Status PostChunk(int first_token);
  absl::Status FinishChunk(float* sum);
  absl::Status Fail(absl::Status status);

  EpochSource& source_;
  ThreadPool& pool_;
  const RemoteExpertLayerOptions options_;

  RoutedBatch batch_;
  OpenEpoch epoch_;      // of the batch in flight
  absl::Status failed_;  // of the batch in flight, from Begin
  int first_token_ = 0;  // of the chunk in flight
  int num_tokens_ = 0;
  DispatchPlan plan_;
  std::vector<ByteBuffer> dispatches_;  // one a worker of the plan
  std::vector<ByteBuffer> combines_;
  std::vector<Exchange> exchanges_;
  std::vector<const float*> vectors_;  // [slots] into combines_
  ExchangeTotals totals_;
};

}  // namespace sheaf
