#pragma once
// PeerWatch: a thread that sleeps on the peers' sockets and tells when one breaks: the kernel
// closes a process's sockets the moment it dies. It is what lets the data path wait on a futex,
// which knows nothing of sockets.
//
// Ownership  borrows the descriptors, which outlive it.
// Threads    on_broken is called from the watch's own thread, once a socket. The destructor ends
//            and joins the thread.
// Errors     Start: kResourceExhausted, no descriptor.

#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace sheaf {

class PeerWatch {
 public:
  // `index`: which of the sockets.
  using OnBroken = std::function<void(size_t index)>;

  static absl::StatusOr<std::unique_ptr<PeerWatch>> Start(std::vector<int> sockets,
                                                          OnBroken on_broken);
  ~PeerWatch();

 private:
  PeerWatch(UniqueFd stop, std::vector<int> sockets, OnBroken on_broken);
  void Run();

  const UniqueFd stop_;
  std::vector<int> sockets_;  // -1: told already
  const OnBroken on_broken_;
  std::thread thread_;
};

}  // namespace sheaf
