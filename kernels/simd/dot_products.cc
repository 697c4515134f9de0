#include "kernels/simd/dot_products.h"

#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace sheaf::kernels {

bool MachineHasDotProducts() {
#if defined(__aarch64__)
  return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#else
  return false;
#endif
}

namespace internal {

constinit std::atomic<bool> use_dot_products{false};

}  // namespace internal
}  // namespace sheaf::kernels
