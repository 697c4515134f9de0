#pragma once
// ExpertRunner: from a received dispatch to its answer. Dispatch bytes -> rows ->
// kernels::RunExperts -> one float vector a (token, expert) pair, in the dispatch's order. Holds no
// state of any request.
//
// Errors     a dispatch that is malformed or asks for an expert that is not here becomes an error
//            frame with the reason; the worker goes on.
// Ownership  borrows source and pool. The answer's payload is valid until the next Run().
// Threads    one; the work is split over the pool.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "exchange/byte_buffer.h"
#include "exchange/dispatch_payload.h"
#include "exchange/expert_source.h"
#include "exchange/transport.h"

namespace sheaf {

struct Answer {
  FrameHeader header;
  std::span<const uint8_t> payload;
  bool ok = false;  // a combine, not an error
};

class ExpertRunner {
 public:
  ExpertRunner(const ExpertSource& source, ThreadPool& pool, WorkerId self);

  Answer Run(const ReceivedDispatch& dispatch);

 private:
  absl::Status Compute(const ReceivedDispatch& dispatch);

  const ExpertSource& source_;
  ThreadPool& pool_;
  const WorkerId self_;

  DispatchView view_;
  std::vector<int32_t> sums_;  // of the received planes
  std::vector<kernels::ExpertJob> jobs_;
  kernels::ExpertScratch scratch_;
  ByteBuffer combine_;
  std::string error_;
};

}  // namespace sheaf
