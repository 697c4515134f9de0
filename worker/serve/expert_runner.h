#pragma once
// ExpertRunner: from a received dispatch to its answer. Dispatch bytes -> rows ->
// kernels::RunExperts -> one vector a (token, expert) pair, in the dispatch's order, as the dispatch
// asked for it. Holds no state of any request.
//
// Errors     a dispatch that asks for experts that are not here is answered with their ids, and nothing
//            is computed; one that is malformed or of another model, with an error's text. The worker
//            goes on.
// Ownership  borrows store and pool; keeps the experts of a dispatch alive until it is answered. A
//            float32 payload is computed where the link will send it from.
// Threads    one; the work is split over the pool.

#include <cstdint>
#include <span>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "base/thread_pool.h"
#include "base/byte_buffer.h"
#include "exchange/link/frame_link.h"
#include "exchange/model_identity.h"
#include "exchange/wire/dispatch_payload.h"
#include "worker/holdings/expert_store.h"

namespace sheaf {

// FrameLink::Reserve.
using AnswerMemory = absl::FunctionRef<absl::StatusOr<std::span<uint8_t>>(size_t bytes)>;

class ExpertRunner {
 public:
  ExpertRunner(const ExpertStore& store, const ModelIdentity& model, ThreadPool& pool);

  // The header of the answer (kCombine, kNotHeld or kError), whose payload is in the memory asked
  // for. An error only when there is no memory for it.
  absl::StatusOr<FrameHeader> Run(const ArrivedFrame& dispatch, AnswerMemory memory);

 private:
  absl::Status PlanJobs(const ArrivedFrame& dispatch);
  absl::Status Compute(const FrameHeader& dispatch, std::span<uint8_t> combine);
  static absl::StatusOr<FrameHeader> AnswerError(const FrameHeader& dispatch,
                                                 const absl::Status& why, AnswerMemory memory);

  const ExpertStore& store_;
  const ModelIdentity model_;
  ThreadPool& pool_;

  DispatchView view_;
  std::vector<HeldExpertPtr> experts_;  // of the dispatch
  std::vector<int32_t> not_held_;
  std::vector<int32_t> sums_;  // of the received planes
  std::vector<kernels::ExpertJob> jobs_;
  kernels::ExpertScratch scratch_;
  ByteBuffer vectors_;  // float32, before they become int16 groups
};

}  // namespace sheaf
