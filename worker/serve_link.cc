#include "worker/serve_link.h"

#include "base/status.h"

namespace sheaf {
namespace {

// Receive has no other deadline of its own: a link without traffic is a router without requests.
constexpr std::chrono::seconds kLook{60};

}  // namespace

absl::Status ServeLink(WorkerLink& link, ExpertRunner& runner, ThreadPool& pool,
                       ServeObserver* observer) {
  for (;;) {
    pool.Park();
    const absl::StatusOr<ReceivedDispatch> dispatch =
        link.Receive(std::chrono::steady_clock::now() + kLook);
    if (absl::IsDeadlineExceeded(dispatch.status())) continue;
    if (!dispatch.ok()) return dispatch.status();
    const TimePoint start = std::chrono::steady_clock::now();
    SHEAF_ASSIGN_OR_RETURN(const Answer answer, runner.Run(*dispatch, [&link](size_t bytes) {
      return link.ReplyBuffer(bytes);
    }));
    SHEAF_RETURN_IF_ERROR(link.Reply(answer.header));
    if (observer == nullptr) continue;
    ServedDispatch served;
    served.tokens = dispatch->header.tokens;
    served.pairs = dispatch->header.pairs;
    served.received_bytes =
        static_cast<int64_t>(kFrameHeaderBytes + dispatch->header.payload_bytes);
    served.sent_bytes = static_cast<int64_t>(kFrameHeaderBytes + answer.header.payload_bytes);
    served.busy = std::chrono::steady_clock::now() - start;
    served.ok = answer.ok;
    observer->OnServed(served);
  }
}

}  // namespace sheaf
