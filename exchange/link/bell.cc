#include "exchange/link/bell.h"

#include <utility>

#include "base/status.h"

namespace sheaf {

absl::StatusOr<std::unique_ptr<Bell>> Bell::Create() {
  SHEAF_ASSIGN_OR_RETURN(MemoryFile memory, MemoryFile::Create("sheaf-bell", kDoorbellBytes));
  std::unique_ptr<Bell> bell(new Bell());
  bell->memory_ = std::move(memory);
  bell->doorbell_ = Doorbell(bell->memory_.data());
  return bell;
}

}  // namespace sheaf
