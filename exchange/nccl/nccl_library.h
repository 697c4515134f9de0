#pragma once
// NcclLibrary: NCCL, found when the program runs: a shared library as the loader finds it, or a
// path; every function of nccl_calls.h found in it; a version that is new enough.
//
// A library stays loaded until the process ends: NCCL has threads of its own.
//
// Threads    any.
// Errors     Load: kNotFound: no such library, or one that cannot be loaded (the loader's words);
//            kFailedPrecondition: it is no NCCL (a function is missing), or too old (wanted and
//            got). Of calls, with the name of the call, the library's own words and the result's
//            number: kUnavailable: CUDA, the system or a peer; kInternal: what was asked of NCCL.

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "exchange/nccl/nccl_calls.h"
#include "exchange/nccl/nccl_version.h"

namespace sheaf {

class NcclLibrary {
 public:
  // "libnccl.so.2": wherever the loader looks; with a slash: that file.
  static absl::StatusOr<std::unique_ptr<NcclLibrary>> Load(const std::string& file);

  const NcclVersion& version() const { return version_; }
  // The names of the features that its version has and that it exports.
  const std::vector<std::string>& features() const { return features_; }
  const NcclCalls& calls() const { return calls_; }

  // Fresh. Until the communicator is made or the process ends a thread of NCCL listens for its
  // ranks, on the interface that NCCL_SOCKET_IFNAME names or NCCL chooses.
  absl::StatusOr<NcclUniqueId> NewUniqueId() const;

  // OK for kSuccess. `call`: "ncclCommInitRankConfig". `communicator` null: what the thread did
  // last.
  absl::Status Check(NcclResult result, const char* call,
                     NcclCommunicatorHandle communicator) const;

 private:
  NcclLibrary(const NcclCalls& calls, const NcclVersion& version,
              std::vector<std::string> features);

  const NcclCalls calls_;
  const NcclVersion version_;
  const std::vector<std::string> features_;
};

}  // namespace sheaf
