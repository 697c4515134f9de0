#include "exchange/nccl/nccl_communicator.h"

#include <chrono>
#include <thread>

#include "absl/strings/str_format.h"
#include "base/status.h"

namespace sheaf {
namespace {

// NCCL has nothing to wait on; a communicator takes tens of milliseconds to make.
constexpr std::chrono::milliseconds kPoll(1);

}  // namespace

absl::StatusOr<std::unique_ptr<NcclCommunicator>> NcclCommunicator::Create(
    const NcclLibrary& library, int ranks, int rank, const NcclUniqueId& id, Duration timeout) {
  constexpr const char* kCall = "ncclCommInitRankConfig";
  const TimePoint deadline = std::chrono::steady_clock::now() + timeout;
  NcclConfig config;
  config.blocking = 0;
  NcclCommunicatorHandle handle = nullptr;
  const NcclResult result =
      library.calls().comm_init_rank_config(&handle, ranks, id, rank, &config);
  if (result != NcclResult::kSuccess && result != NcclResult::kInProgress) {
    const absl::Status status = library.Check(result, kCall, handle);
    if (handle != nullptr) library.calls().comm_abort(handle);
    return status;
  }
  std::unique_ptr<NcclCommunicator> communicator(new NcclCommunicator(library, handle));
  SHEAF_RETURN_IF_ERROR(communicator->WaitFor(kCall, deadline, timeout));
  return communicator;
}

NcclCommunicator::~NcclCommunicator() { library_.calls().comm_abort(handle_); }

absl::Status NcclCommunicator::WaitFor(const char* call, TimePoint deadline,
                                       Duration timeout) const {
  while (true) {
    NcclResult state = NcclResult::kSuccess;
    SHEAF_RETURN_IF_ERROR(library_.Check(library_.calls().comm_get_async_error(handle_, &state),
                                         "ncclCommGetAsyncError", handle_));
    if (state != NcclResult::kInProgress) return library_.Check(state, call, handle_);
    if (std::chrono::steady_clock::now() >= deadline) {
      return absl::DeadlineExceededError(absl::StrFormat(
          "NCCL: %s: not done within %d ms, aborted", call,
          std::chrono::duration_cast<std::chrono::milliseconds>(timeout).count()));
    }
    std::this_thread::sleep_for(kPoll);
  }
}

}  // namespace sheaf
