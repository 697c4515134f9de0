#include "network/descriptor_shares.h"

#include <dirent.h>
#include <sys/resource.h>

#include <algorithm>

#include "absl/strings/str_format.h"

namespace sheaf {
namespace {

// of a face: below that probes and clients shut each other out
constexpr size_t kFewestConnections = 4;
// Files that are read again, sockets to a coordinator, the ready file, a listener's spare ones.
constexpr size_t kReservedForProcess = 16;
// Session, data link and its hand-over.
constexpr size_t kReservedForWorker = 8;

}  // namespace

size_t CurrentDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1024;
  return std::min<size_t>(limit.rlim_cur, kMostDescriptors);
}

DescriptorLimit RaiseDescriptorLimit() {
  DescriptorLimit result;
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    result.before = std::min<size_t>(limit.rlim_cur, kMostDescriptors);
    const rlim_t wanted = std::min<rlim_t>(limit.rlim_max, kMostDescriptors);
    if (limit.rlim_cur < wanted) {
      limit.rlim_cur = wanted;
      (void)setrlimit(RLIMIT_NOFILE, &limit);  // refused: it stays as it is
    }
  }
  result.now = CurrentDescriptorLimit();
  return result;
}

size_t OpenDescriptors() {
  DIR* const directory = opendir("/proc/self/fd");
  if (directory == nullptr) return 0;
  size_t count = 0;
  while (const dirent* entry = readdir(directory)) count += entry->d_name[0] != '.';
  closedir(directory);
  return count - 1;  // without the directory's own
}

DescriptorNeeds NeedsOfRouter(size_t limit, size_t open, int workers, size_t wanted) {
  const size_t reserved = kReservedForProcess + kReservedForWorker * static_cast<size_t>(workers);
  // Of a small limit a part is better than no service.
  return {.limit = limit,
          .open = open,
          .reserved = std::min(reserved, std::max(kReservedForProcess, limit / 4)),
          .wanted = wanted};
}

absl::StatusOr<DescriptorShares> ShareDescriptors(const DescriptorNeeds& needs) {
  const size_t taken = needs.open + needs.reserved;
  const size_t least = taken + 2 * kFewestConnections;
  if (needs.limit < least) {
    return absl::ResourceExhaustedError(absl::StrFormat(
        "too few file descriptors: wanted at least %d, got a limit of %d (ulimit -n)", least,
        needs.limit));
  }
  DescriptorShares shares;
  shares.connections = std::min(needs.wanted, (needs.limit - taken) / 2);
  shares.ceiling = static_cast<int>(needs.limit - needs.reserved / 2);
  return shares;
}

}  // namespace sheaf
