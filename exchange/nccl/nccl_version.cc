#include "exchange/nccl/nccl_version.h"

#include "absl/strings/str_format.h"

namespace sheaf {

NcclVersion NcclVersion::FromCode(int code) {
  if (code < 10000) return {code / 1000, code % 1000 / 100, code % 100};
  return {code / 10000, code % 10000 / 100, code % 100};
}

std::string NcclVersion::Text() const { return absl::StrFormat("%d.%d.%d", major, minor, patch); }

}  // namespace sheaf
