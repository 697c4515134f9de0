#pragma once
// ExpertRunner: from a received dispatch to its answer. Dispatch bytes -> rows -> ExpertCompute ->
// one vector a (token, expert) pair, in the dispatch's order, as the dispatch asked for it. Holds
// no state of any request.
//
//   Begin(dispatch) ... Finish(memory)    up to depth() of them under way, answered oldest first
//
// Errors     a dispatch that asks for experts that are not here is answered with their ids, and
//            nothing is computed; one that is malformed or of another model, or whose computation
//            fails, with an error's text. The worker goes on.
// Ownership  borrows experts and pool; keeps the experts of a dispatch alive until it is answered.
//            A dispatch's payload is borrowed from Begin until its Finish. A float32 payload is
//            written where the link will send it from.
// Threads    one; the work is what ExpertCompute makes of it.

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/byte_buffer.h"
#include "base/thread_pool.h"
#include "exchange/expert_compute.h"
#include "exchange/link/frame_link.h"
#include "exchange/model_identity.h"
#include "exchange/wire/dispatch_payload.h"

namespace sheaf {

// FrameLink::Reserve.
using AnswerMemory = absl::FunctionRef<absl::StatusOr<std::span<uint8_t>>(size_t bytes)>;

class ExpertRunner {
 public:
  ExpertRunner(const HeldExperts& experts, const ModelIdentity& model, ThreadPool& pool);

  int depth() const { return compute_->depth(); }
  int under_way() const { return under_way_; }

  // Wants under_way() < depth().
  void Begin(const ArrivedFrame& dispatch);
  // Of the oldest: the header of the answer (kCombine, kNotHeld or kError), whose payload is in the
  // memory asked for. An error only when there is no memory for it; that dispatch is over then,
  // too.
  absl::StatusOr<FrameHeader> Finish(AnswerMemory memory);

 private:
  struct Work {
    FrameHeader dispatch;
    DispatchView view;
    std::vector<HeldExpertPtr> experts;
    std::vector<HeldExpertJob> jobs;
    std::vector<int32_t> not_held;
    absl::Status status;  // why it is answered with an error
  };

  absl::Status Plan(const ArrivedFrame& dispatch, Work& work) const;
  absl::StatusOr<FrameHeader> Answer(Work& work, AnswerMemory memory);
  absl::Status Compute(Work& work, std::span<uint8_t> combine);
  static absl::StatusOr<FrameHeader> AnswerError(const FrameHeader& dispatch,
                                                 const absl::Status& why, AnswerMemory memory);

  const HeldExperts& experts_;
  const ModelIdentity model_;
  ThreadPool& pool_;
  const std::unique_ptr<ExpertCompute> compute_;

  std::vector<Work> work_;  // a ring of depth()
  size_t oldest_ = 0;
  int under_way_ = 0;
  ByteBuffer vectors_;  // float32, before they become int16 groups
};

}  // namespace sheaf
