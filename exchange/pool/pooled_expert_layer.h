#pragma once
// PooledExpertLayer: ExpertLayer over the pool's links. Begin plans, packs and sends one dispatch a
// worker; Finish takes the answers as they come, asks others for what is missing, and adds up in
// expert order: the bits are those of LocalExpertLayer, whoever answered. What happens to one layer
// is LayerExchange's; here are chunks, waiting and the lock.
//
// A long batch goes in parts, one after the other (exchange/expert_layer.h), none so long that it
// took more than chunk_time as the last one went: what a worker has begun it ends, though the batch
// be given up, and whoever comes next waits for that. Dispatches are packed in the links' memory
// and float32 combines are added up where they arrived.
//
// Threads    one step thread. From Begin to the end of Finish it has the pool's links. It waits as
//            exchange/link/exchange_wait.h says.
// Ownership  borrows the link pool, the thread pool and the observer; they outlive it.
// Errors     as exchange/expert_layer.h.

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/thread_pool.h"
#include "exchange/expert_layer.h"
#include "exchange/link/exchange_wait.h"
#include "exchange/pool/exchange_totals.h"
#include "exchange/pool/layer_exchange.h"
#include "exchange/pool/link_pool.h"

namespace sheaf {

struct PooledExpertLayerOptions {
  FrameElement combine_element = FrameElement::kFloat32;  // or kInt16Groups
  // Of a part: chunk_tokens whatever they take, max_chunk_tokens if that is within chunk_time.
  int chunk_tokens = 512;  // [1, 65536]
  int max_chunk_tokens = kExpertChunkTokens;
  std::chrono::milliseconds chunk_time{250};
  LayerMachineOptions machine;  // give_up_after, orphan_patience, verify_share, ...
  bool share_cores = true;      // workers, with this process's thread pool
  ExchangeWait wait;            // for answers
  // Asked every 50 ms while Finish waits, by the step thread: true ends it with kAborted.
  std::function<bool()> give_up;
  Referee referee;  // empty: none
};

class PooledExpertLayer final : public ExpertLayer {
 public:
  // `observer` may be null.
  PooledExpertLayer(LinkPool& links, ThreadPool& pool, const PooledExpertLayerOptions& options,
                    PooledLayerObserver* observer = nullptr);
  ~PooledExpertLayer() override;

  absl::Status Begin(const RoutedBatch& batch) override;
  absl::Status Finish(float* sum) override;

  // From the step thread, e.g. once a step.
  ExchangeTotals TakeTotals();
  // Pairs needed since the last call, [layers with experts][experts], whoever computed them.
  std::vector<uint32_t> TakePairCounts();

 private:
  int ChunkTokens() const;
  absl::Status BeginChunk(int first_token);
  absl::Status FinishChunk(float* sum);
  absl::Status WaitForAnswers();
  void CountPairs(const ExchangeChunk& chunk);
  absl::Status End(absl::Status status);

  LinkPool& links_;
  ThreadPool& pool_;
  const PooledExpertLayerOptions options_;
  PooledLayerObserver* const observer_;
  std::unique_ptr<LayerExchange> exchange_;

  RoutedBatch batch_;
  std::optional<LinkPool::Session> session_;  // while a batch is in flight
  absl::Status failed_;                       // of the last batch
  int first_token_ = 0;                       // of the chunk in flight
  int num_tokens_ = 0;
  TimePoint chunk_began_;
  Duration token_time_{};  // of the last telling part; 0: none yet
  std::vector<uint32_t> pair_counts_;
};

}  // namespace sheaf
