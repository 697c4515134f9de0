// An NCCL that is not there: a library to be loaded in libnccl.so.2's place, which is as unkind as
// NCCL is: who waits for a rank that does not come waits until the communicator is aborted. It has
// the ABI in types of its own. The environment says what it does:
//   SHEAF_FAKE_NCCL_VERSION   as ncclGetVersion says it; 23003 without
//   SHEAF_FAKE_NCCL_INIT      made (after some calls of ncclCommGetAsyncError), refused (at once),
//                             lost (later, a peer), never
//   SHEAF_FAKE_NCCL_ID        refused: no unique id
// fake_nccl_live_communicators says how many were made and not aborted.

#include <atomic>
#include <climits>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

struct UniqueId {
  char internal[128];
};

struct Config {
  size_t size;
  unsigned int magic, version;
  int blocking, cga_cluster_size, min_ctas, max_ctas;
  const char* net_name;
  int split_share, traffic_class;
  const char* comm_name;
  int collnet_enable, cta_policy, shrink_share, nvls_ctas;
};

std::string Told(const char* name, const char* otherwise) {
  const char* const text = std::getenv(name);
  return text == nullptr ? otherwise : text;
}

std::atomic<int> live{0};
thread_local const char* last_error = "";

}  // namespace

struct ncclComm {
  std::string fate;
  int asked = 0;
  const char* last_error = "";
};

extern "C" {

int fake_nccl_live_communicators() { return live.load(); }

int ncclGetVersion(int* code) {
  *code = std::atoi(Told("SHEAF_FAKE_NCCL_VERSION", "23003").c_str());
  return 0;
}

int ncclGetUniqueId(UniqueId* id) {
  if (Told("SHEAF_FAKE_NCCL_ID", "") == "refused") {
    last_error = "Bootstrap : no socket interface found";
    return 2;
  }
  static std::atomic<int> next{1};
  std::memset(id->internal, 0, sizeof(id->internal));
  std::memcpy(id->internal, "fake", 4);
  id->internal[127] = static_cast<char>(next.fetch_add(1));
  return 0;
}

const char* ncclGetErrorString(int result) {
  switch (result) {
    case 1:
      return "unhandled cuda error";
    case 2:
      return "unhandled system error";
    case 4:
      return "invalid argument";
    case 6:
      return "remote process exited or there was a network error";
    default:
      return "unknown result code";
  }
}

const char* ncclGetLastError(ncclComm* communicator) {
  return communicator == nullptr ? last_error : communicator->last_error;
}

int ncclCommInitRankConfig(ncclComm** communicator, int ranks, UniqueId id, int rank,
                           Config* config) {
  last_error = "";
  const bool right = config->size == sizeof(Config) && config->magic == 0xcafebeef &&
                     config->version == 22700 && config->blocking == 0 &&
                     config->cga_cluster_size == INT_MIN && config->net_name == nullptr &&
                     config->traffic_class == INT_MIN && config->comm_name == nullptr &&
                     config->nvls_ctas == INT_MIN && std::memcmp(id.internal, "fake", 4) == 0 &&
                     id.internal[127] != 0 && rank >= 0 && rank < ranks;
  if (!right) {
    last_error = "the fake was given another ABI";
    return 4;
  }
  const std::string fate = Told("SHEAF_FAKE_NCCL_INIT", "made");
  if (fate == "refused") {
    last_error = "Cuda failure 'CUDA driver version is insufficient'\n";
    return 1;
  }
  *communicator = new ncclComm{fate};
  live.fetch_add(1);
  return 7;
}

int ncclCommGetAsyncError(ncclComm* communicator, int* result) {
  const bool late = ++communicator->asked > 5;
  *result = late && communicator->fate != "never" ? 0 : 7;
  if (late && communicator->fate == "lost") {
    communicator->last_error = "socketProgress: Connection closed by remote peer";
    *result = 6;
  }
  return 0;
}

int ncclCommAbort(ncclComm* communicator) {
  live.fetch_sub(1);
  delete communicator;
  return 0;
}

#ifndef SHEAF_FAKE_NCCL_WITHOUT_FEATURES
int ncclCommShrink() { return 5; }
int ncclCommRevoke() { return 5; }
int ncclCommGrow() { return 5; }
int ncclCommSuspend() { return 5; }
#endif

}  // extern "C"
