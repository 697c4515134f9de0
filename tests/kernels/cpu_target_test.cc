#include "kernels/simd/cpu_target.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/simd/reference_switch.h"

namespace sheaf::kernels {
namespace {

TEST(CpuTarget, EveryAvailableTargetCanBeForcedAndIsThenActive) {
  const std::vector<std::string> names = AvailableCpuTargets();
  ASSERT_FALSE(names.empty());
  EXPECT_EQ(names.back(), "scalar");
  for (const std::string& name : names) {
    ASSERT_TRUE(ForceCpuTarget(name).ok());
    EXPECT_EQ(ActiveCpuTarget(), name);
    EXPECT_EQ(internal::UseReference(), name == "scalar");
  }
  ASSERT_TRUE(ForceCpuTarget("auto").ok());
  EXPECT_EQ(ActiveCpuTarget(), names.front()) << "auto must pick the best";
}

TEST(CpuTarget, AnUnknownNameIsRefusedWithTheNamesThatExist) {
  const absl::Status status = ForceCpuTarget("sse2");
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("avx512_vnni"), absl::string_view::npos) << status;
}

TEST(CpuTarget, ATargetOfAnotherMachineIsUnavailableAndChangesNothing) {
  const std::vector<std::string> names = AvailableCpuTargets();
  for (const char* name : {"avx2", "avx512", "avx512_vnni", "neon", "neon_dot"}) {
    if (std::find(names.begin(), names.end(), name) != names.end()) continue;
    EXPECT_EQ(ForceCpuTarget(name).code(), absl::StatusCode::kUnavailable) << name;
    EXPECT_EQ(ActiveCpuTarget(), names.front());
  }
}

}  // namespace
}  // namespace sheaf::kernels
