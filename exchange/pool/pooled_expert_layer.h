#pragma once
// PooledExpertLayer: ExpertLayer over the pool's links. Begin plans, packs and sends one dispatch a
// worker; Finish takes the answers as they come, lets LayerMachine ask others for what is missing,
// and adds up in expert order: the bits are those of LocalExpertLayer, whoever answered.
//
// A batch longer than chunk_tokens goes in parts, one after the other, to bound the memory of the
// combines (chunk_tokens * top_k * hidden * 4 bytes in all). Dispatches are packed in the links'
// memory and float32 combines are added up where they arrived.
//
// Answers that come twice (verify_share, hedges) are compared bit for bit. When they differ a third
// holder is asked, and else the referee, before the sum is taken; the observer hears who was wrong.
//
// Threads    one step thread. From Begin to the end of Finish it has the pool's links. Before it waits
//            it parks the thread pool: a spinning thread would hold a worker's core.
// Ownership  borrows the link pool, the thread pool and the observer; they outlive it.
// Errors     as exchange/expert_layer.h.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "exchange/byte_buffer.h"
#include "exchange/expert_layer.h"
#include "exchange/layer/layer_machine.h"
#include "exchange/pool/answer_comparison.h"
#include "exchange/pool/exchange_totals.h"
#include "exchange/pool/link_pool.h"
#include "exchange/wire/combine_payload.h"

namespace sheaf {

// The right answer, computed from the checkpoint itself: rows[i] of x through the expert into
// out[i][hidden].
using Referee = std::function<absl::Status(LayerId layer, ExpertId expert,
                                           const kernels::QuantizedRows& x,
                                           std::span<const int32_t> rows, float* out)>;

// Called from the step thread with the links locked; must not block.
class PooledLayerObserver {
 public:
  virtual ~PooledLayerObserver() = default;
  // Its answer differed from what another holder, or the checkpoint, says.
  virtual void OnWrongAnswer(WorkerId /*worker*/, LayerId /*layer*/, ExpertId /*expert*/) {}
  // Two workers differ and nobody can say who is right. The first answer was used.
  virtual void OnUndecided(WorkerId /*first*/, WorkerId /*second*/, LayerId /*layer*/,
                           ExpertId /*expert*/) {}
  // The layer was given up; experts that nobody holds.
  virtual void OnGivenUp(LayerId /*layer*/, const absl::Status& /*why*/,
                         std::span<const ExpertId> /*orphans*/) {}
};

struct PooledExpertLayerOptions {
  FrameElement combine_element = FrameElement::kFloat32;  // or kInt16Groups
  int chunk_tokens = 512;                                 // [1, 65536]
  LayerMachineOptions machine;  // give_up_after, orphan_patience, verify_share, ...
  // Asked every 50 ms while Finish waits: true ends it with kAborted.
  std::function<bool()> give_up;
  Referee referee;
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
  absl::Status BeginChunk(int first_token);
  absl::Status FinishChunk(float* sum);
  absl::Status WaitForAnswers();
  // How many were sent, or found their link full or gone.
  int SendAsks(TimePoint now);
  void SendAsk(const Ask& ask, TimePoint now);
  void Take(const PoolEvent& event, TimePoint now);
  void TakeCombine(const PoolEvent& event, TimePoint now);
  void CompareAnswer(const CombineView& view, const WorkerPlan& plan, const ExpertRun& run,
                     size_t first_pair, TimePoint now);
  void SettleDisputes();
  void Use(const Dispute& dispute, std::vector<float> right);
  void CountPairs();
  ExchangeTotals::Worker& TotalsOf(WorkerId worker);
  absl::Status End(absl::Status status);

  LinkPool& links_;
  ThreadPool& pool_;
  const PooledExpertLayerOptions options_;
  PooledLayerObserver* const observer_;
  std::unique_ptr<LayerMachine> machine_;

  RoutedBatch batch_;
  std::optional<LinkPool::Session> session_;  // while a batch is in flight
  absl::Status failed_;                       // of Begin
  int first_token_ = 0;                       // of the chunk in flight
  int num_tokens_ = 0;
  kernels::QuantizedRows chunk_;              // its rows
  std::vector<const float*> vectors_;         // [slots] into arrived frames, expanded_ or settled_
  ByteBuffer expanded_;                       // float [slots][hidden], of int16 combines
  std::vector<WorkerId> answered_by_;         // by expert, of this chunk
  std::vector<Dispute> disputes_;
  std::vector<std::vector<float>> settled_;   // right rows of disputes
  std::vector<float> rows_;                   // scratch

  ExchangeTotals totals_;
  std::vector<uint32_t> pair_counts_;
};

}  // namespace sheaf
