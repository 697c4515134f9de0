#pragma once
// LayerExchange: one layer's dispatches and answers over the pool's links: LayerMachine carried
// out. Waits for nothing: time comes in, and Poll takes what has arrived. PooledExpertLayer puts
// the waiting around it; the simulation drives it by simulated time.
//
//   Begin(chunk)           plans, packs each dispatch in its link's memory, sends
//   Poll / Tick            until done() or !given_up().ok()
//   vectors()              one a (token, expert) pair, where it arrived or was expanded
//   End()                  the memory of the answers goes back to the links
//
// Answers that come twice (verification, hedges) are compared bit for bit. When they differ a third
// holder is asked, and else the referee, before done(); the observer hears who was wrong.
//
// Ownership  borrows links, thread pool and observer; chunk's views stay valid until End.
// Threads    one at a time: who has the links.
// Errors     Begin: kInvalidArgument; given_up(): LayerMachine's.

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/byte_buffer.h"
#include "base/thread_pool.h"
#include "exchange/layer/layer_machine.h"
#include "exchange/pool/answer_comparison.h"
#include "exchange/pool/exchange_totals.h"
#include "exchange/pool/pool_links.h"
#include "exchange/wire/combine_payload.h"
#include "kernels/linear/quantized_rows.h"

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

struct LayerExchangeOptions {
  FrameElement combine_element = FrameElement::kFloat32;  // or kInt16Groups
  LayerMachineOptions machine;
  Referee referee;          // empty: none
  bool share_cores = true;  // with workers: all dispatches are sent before any worker is woken
};

// Consecutive tokens of one layer; views.
struct ExchangeChunk {
  StepId step;
  LayerId layer;
  kernels::QuantizedRows x;
  int top_k = 0;
  const int32_t* expert_ids = nullptr;  // [rows][top_k]
};

class LayerExchange {
 public:
  LayerExchange(PoolLinks& links, ThreadPool& pool, const LayerExchangeOptions& options,
                PooledLayerObserver* observer);

  absl::Status Begin(const ExchangeChunk& chunk, TimePoint now);
  // Takes what has arrived (`all`: also over links that owe nothing) and sends what follows from
  // it. False: there was nothing.
  bool Poll(TimePoint now, bool all);
  // At WakeAt(), after Poll found nothing. True: it sent something, or the layer has ended.
  bool Tick(TimePoint now);
  TimePoint WakeAt() const { return machine_.WakeAt(); }
  // Also settles what was in dispute.
  bool done();
  const absl::Status& given_up() const { return machine_.given_up(); }
  // [rows * top_k], each `hidden` floats; valid when done, until End.
  const float* const* vectors() const { return vectors_.data(); }
  void End(TimePoint now);

  const LayerMachine& machine() const { return machine_; }
  ExchangeTotals& totals() { return totals_; }
  LayerStatistics TakeStatistics() { return machine_.TakeStatistics(); }

 private:
  int SendAsks(TimePoint now);
  void SendAsk(const Ask& ask, TimePoint now);
  void Take(const PoolEvent& event, TimePoint now);
  void TakeCombine(const PoolEvent& event, TimePoint now);
  void CompareAnswer(const CombineView& view, const WorkerPlan& plan, const ExpertRun& run,
                     size_t first_pair, TimePoint now);
  void SettleDisputes();
  Judgement Judge(const Dispute& dispute);
  ExchangeTotals::Worker& TotalsOf(WorkerId worker);

  PoolLinks& links_;
  ThreadPool& pool_;
  const LayerExchangeOptions options_;
  PooledLayerObserver* const observer_;
  LayerMachine machine_;
  ExchangeTotals totals_;

  ExchangeChunk chunk_;
  std::vector<const float*> vectors_;        // into arrived frames, expanded_ or settled_
  ByteBuffer expanded_;                      // float [slots][hidden], of int16 combines
  std::vector<WorkerId> answered_by_;        // by expert, of this chunk
  std::vector<Dispute> disputes_;
  std::vector<std::vector<float>> settled_;  // right rows of disputes
  std::vector<float> rows_;                  // scratch
};

}  // namespace sheaf
