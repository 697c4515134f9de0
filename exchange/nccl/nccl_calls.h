#pragma once
// NcclCalls: the functions of NCCL that Sheaf calls, as its C ABI has them, and no others. They are
// declared here so that neither NCCL's headers nor its library are needed to build.
//
// ABI        of nccl.h 2.27.7; the same declarations in 2.32.3. Numbers of results and fields of
//            the config never change, later versions append. A library that is newer than a config
//            fills in what the config's version does not have.
// Threads    NCCL's: one call at a time on a communicator, but for ncclCommAbort and
//            ncclCommGetAsyncError, which may come from another thread than the one that waits.

#include <climits>
#include <cstddef>

namespace sheaf {

// ncclResult_t; what is not here arrives as its number.
enum class NcclResult : int {
  kSuccess = 0,
  kUnhandledCudaError = 1,
  kSystemError = 2,
  kInternalError = 3,
  kInvalidArgument = 4,
  kInvalidUsage = 5,
  kRemoteError = 6,
  kInProgress = 7,
};

// ncclUniqueId: where the ranks of one communicator meet, and the only thing that NCCL asks of who
// comes there. Whoever has it can take a rank's place: it travels over authenticated connections
// alone.
struct NcclUniqueId {
  char bytes[128] = {};
};
static_assert(sizeof(NcclUniqueId) == 128);

using NcclCommunicatorHandle = struct ncclComm*;

// ncclConfig_t of 2.27.
struct NcclConfig {
  static constexpr int kUnset = INT_MIN;

  size_t size = sizeof(NcclConfig);
  unsigned int magic = 0xcafebeef;
  unsigned int version = 22700;
  int blocking = kUnset;  // 0: calls return kInProgress and go on behind the caller's back
  int cga_cluster_size = kUnset;
  int min_ctas = kUnset;
  int max_ctas = kUnset;
  const char* net_name = nullptr;
  int split_share = kUnset;
  int traffic_class = kUnset;
  const char* comm_name = nullptr;
  int collnet_enable = kUnset;
  int cta_policy = kUnset;
  int shrink_share = kUnset;
  int nvls_ctas = kUnset;
};
static_assert(offsetof(NcclConfig, blocking) == 16 && offsetof(NcclConfig, net_name) == 32 &&
              offsetof(NcclConfig, comm_name) == 48 && sizeof(NcclConfig) == 72);

struct NcclCalls {
  NcclResult (*get_version)(int* code) = nullptr;
  NcclResult (*get_unique_id)(NcclUniqueId* id) = nullptr;
  const char* (*get_error_string)(NcclResult result) = nullptr;
  const char* (*get_last_error)(NcclCommunicatorHandle communicator) = nullptr;
  NcclResult (*comm_init_rank_config)(NcclCommunicatorHandle* communicator, int ranks,
                                      NcclUniqueId id, int rank, NcclConfig* config) = nullptr;
  NcclResult (*comm_get_async_error)(NcclCommunicatorHandle communicator,
                                     NcclResult* result) = nullptr;
  NcclResult (*comm_abort)(NcclCommunicatorHandle communicator) = nullptr;
};

}  // namespace sheaf
