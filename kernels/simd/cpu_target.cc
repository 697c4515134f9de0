#include "kernels/simd/cpu_target.h"

#include <cstdint>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "kernels/simd/dot_products.h"
#include "kernels/simd/reference_switch.h"

// clang-format off: the first fixes the set of targets for the second.
#include "kernels/simd/highway_targets.h"
#include "hwy/targets.h"
// clang-format on

namespace sheaf::kernels {
namespace {

struct NamedTarget {
  std::string_view name;
  int64_t highway;    // 0: the reference implementations
  bool dots = false;  // with kernels/simd/dot_products.h
};

// Best first.
constexpr NamedTarget kTargets[] = {{"avx512_vnni", HWY_AVX3_DL},
                                    {"avx512", HWY_AVX3},
                                    {"avx2", HWY_AVX2},
                                    {"neon_dot", HWY_NEON, true},
                                    {"neon", HWY_NEON},
                                    {"scalar", 0}};

// What the machine has, whatever is forced. Highway reports its static target even where the
// machine lacks it, hence the second look.
int64_t MachineTargets() {
  static const int64_t targets = [] {
    hwy::SetSupportedTargetsForTest(0);
    int64_t found = hwy::SupportedTargets() & HWY_TARGETS;
#if defined(__x86_64__)
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) found = 0;
#endif
    return found;
  }();
  return targets;
}

bool Available(const NamedTarget& target) {
  if (target.highway == 0) return true;
  return (MachineTargets() & target.highway) != 0 && (!target.dots || MachineHasDotProducts());
}

const NamedTarget& BestTarget() {
  for (const NamedTarget& target : kTargets) {
    if (Available(target)) return target;
  }
  return kTargets[std::size(kTargets) - 1];
}

void Choose(const NamedTarget& target) {
  // Resets Highway's one table index, so every dispatch table follows.
  hwy::SetSupportedTargetsForTest(target.highway);
  internal::use_dot_products.store(target.dots, std::memory_order_relaxed);
  internal::reference_mode.store(
      target.highway == 0 ? internal::ReferenceMode::kReference : internal::ReferenceMode::kSimd,
      std::memory_order_relaxed);
}

}  // namespace

namespace internal {

constinit std::atomic<ReferenceMode> reference_mode{ReferenceMode::kUnknown};

ReferenceMode DetectReferenceMode() {
  use_dot_products.store(BestTarget().dots, std::memory_order_relaxed);
  const ReferenceMode mode =
      MachineTargets() == 0 ? ReferenceMode::kReference : ReferenceMode::kSimd;
  reference_mode.store(mode, std::memory_order_relaxed);
  return mode;
}

}  // namespace internal

std::vector<std::string> AvailableCpuTargets() {
  std::vector<std::string> names;
  for (const NamedTarget& target : kTargets) {
    if (Available(target)) names.emplace_back(target.name);
  }
  return names;
}

absl::Status ForceCpuTarget(std::string_view name) {
  if (name == "auto") {
    Choose(BestTarget());
    return absl::OkStatus();
  }
  for (const NamedTarget& target : kTargets) {
    if (target.name != name) continue;
    if (!Available(target)) {
      return absl::UnavailableError(
          absl::StrFormat("this machine cannot run CPU target \"%s\"; it can run %s", name,
                          absl::StrJoin(AvailableCpuTargets(), ", ")));
    }
    Choose(target);
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrFormat(
      "unknown CPU target \"%s\"; wanted auto, avx2, avx512, avx512_vnni, neon, neon_dot or scalar",
      name));
}

std::string ActiveCpuTarget() {
  if (internal::UseReference()) return "scalar";
  const int64_t usable = hwy::SupportedTargets() & MachineTargets();
  for (const NamedTarget& target : kTargets) {
    if (target.dots && !internal::UseDotProducts()) continue;
    if ((usable & target.highway) != 0) return std::string(target.name);
  }
  return "scalar";
}

}  // namespace sheaf::kernels
