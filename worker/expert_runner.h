#pragma once
// ExpertRunner: from a received dispatch to its answer. Dispatch bytes -> rows ->
// kernels::RunExperts -> one float vector a (token, expert) pair, in the dispatch's order. Holds no
// state of any request.
//
// Errors     a dispatch that is malformed or asks for an expert that is not here becomes an error
//            frame with the reason; the worker goes on.
// Ownership  borrows source and pool. The payload is written straight into the link's reply buffer.
// Threads    one; the work is split over the pool.

#include <cstdint>
#include <span>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "base/thread_pool.h"
#include "exchange/dispatch_payload.h"
#include "exchange/expert_source.h"
#include "exchange/transport.h"

namespace sheaf {

struct Answer {
  FrameHeader header;
  bool ok = false;  // a combine, not an error
};

// WorkerLink::ReplyBuffer.
using ReplyMemory = absl::FunctionRef<absl::StatusOr<std::span<uint8_t>>(size_t bytes)>;

class ExpertRunner {
 public:
  ExpertRunner(const ExpertSource& source, ThreadPool& pool, WorkerId self);

  // An error only when there is no memory for the answer.
  absl::StatusOr<Answer> Run(const ReceivedDispatch& dispatch, ReplyMemory reply_memory);

 private:
  absl::Status PlanJobs(const ReceivedDispatch& dispatch);
  void Compute(const FrameHeader& header, std::span<uint8_t> combine);

  const ExpertSource& source_;
  ThreadPool& pool_;
  const WorkerId self_;

  DispatchView view_;
  std::vector<int32_t> sums_;  // of the received planes
  std::vector<kernels::ExpertJob> jobs_;
  kernels::ExpertScratch scratch_;
};

}  // namespace sheaf
