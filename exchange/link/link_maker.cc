#include "exchange/link/link_maker.h"

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/one_line.h"

namespace sheaf {

absl::Status AsConnectError(const absl::Status& status) {
  return absl::IsInvalidArgument(status) ? absl::UnavailableError(status.message()) : status;
}

absl::Status NothingInCommon(const std::string& reach, const std::vector<std::string>& addresses) {
  constexpr size_t kShown = 256;  // the addresses come from a peer
  const std::string all = OneLine(absl::StrJoin(addresses, ", ").substr(0, kShown));
  return absl::FailedPreconditionError(absl::StrFormat(
      "no transport in common: this side reaches %s, the worker listens on [%s]", reach, all));
}

}  // namespace sheaf
