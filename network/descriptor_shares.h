#pragma once
// Descriptor shares: how many file descriptors this process may have, and how many of them clients
// get, so that strangers' connections never take what files, workers and listeners need.
//
// Threads    ShareDescriptors is pure; the others ask the kernel, any thread.
// Errors     ShareDescriptors: kResourceExhausted when the limit leaves too little to serve at all.

#include <cstddef>

#include "absl/status/statusor.h"

namespace sheaf {

// The soft limit of open files, raised to the hard one: what services expect that are started by
// hand, where the soft one is 1,024 for the sake of programs that use select(). At most
// kMostDescriptors.
inline constexpr size_t kMostDescriptors = size_t{1} << 20;
struct DescriptorLimit {
  size_t before = 0;
  size_t now = 0;
};
DescriptorLimit RaiseDescriptorLimit();

// The soft limit as it is.
size_t CurrentDescriptorLimit();

// Open now.
size_t OpenDescriptors();

struct DescriptorNeeds {
  size_t limit = 0;     // of the process
  size_t open = 0;      // already
  size_t reserved = 0;  // will be needed beside clients: files, workers, spare ones
  size_t wanted = 0;    // connections of each face
};
struct DescriptorShares {
  size_t connections = 0;  // of each of the two faces, HTTP and gRPC; at most what was wanted
  // A client's socket with this number or a higher one is refused: what is above stays free for the
  // rest of the process. (The kernel gives the lowest free number.)
  int ceiling = 0;
};
DescriptorNeeds NeedsOfRouter(size_t limit, size_t open, int workers, size_t wanted);
absl::StatusOr<DescriptorShares> ShareDescriptors(const DescriptorNeeds& needs);

}  // namespace sheaf
