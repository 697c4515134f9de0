// What `sheaf devices` says and how it ends, over a fake CUDA and a fake NCCL.

#include "cli/commands/device_survey.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>

#include "tests/cuda/fake_cuda_runtime.h"
#include "tests/cuda/reference_expert_kernels.h"

namespace sheaf {
namespace {

using ::testing::HasSubstr;

testing::FakeCudaOptions machine;

absl::StatusOr<CudaPlatform> FindFake() {
  auto runtime = std::make_unique<testing::FakeCudaRuntime>(machine);
  CudaPlatform platform;
  platform.kernels = std::make_unique<testing::ReferenceExpertKernels>(
      *runtime, testing::ReferenceKernelOptions{.fast = true});
  platform.runtime = std::move(runtime);
  return platform;
}

absl::StatusOr<CudaPlatform> FindNone() {
  return absl::FailedPreconditionError("this build has none");
}

class Devices : public ::testing::Test {
 protected:
  Devices() { machine = {.devices = 2}; }
  ~Devices() override { unsetenv("SHEAF_FAKE_NCCL_INIT"); }

  const DevicesOptions nccl_{.nccl_library = SHEAF_FAKE_NCCL, .timeout_ms = 50};
};

TEST_F(Devices, UsableOnesAreTold) {
  const DeviceSurvey survey = SurveyDevices(nccl_, FindFake);
  EXPECT_TRUE(Verdict(survey).ok()) << Verdict(survey);
  const std::string text = DeviceSurveyText(survey);
  EXPECT_THAT(text, HasSubstr("CUDA: the driver's is 13.0, this build's 13.0\n"
                              "  cuda:0 (fake GPU): compute capability 9.0, 0.06 of 0.07 GB free\n"
                              "  cuda:1 (fake GPU): compute capability 9.0, "));
  EXPECT_THAT(text, HasSubstr("NCCL 2.30.3 ("));
  EXPECT_THAT(text, HasSubstr("): abort, shrink, revoke, grow, suspend, several ranks on one GPU\n"
                              "  a unique id: made\n"
                              "  a communicator of one rank: made in "));
}

TEST_F(Devices, NcclIsLookedAtWhenItIsAskedFor) {
  const DeviceSurvey survey = SurveyDevices({}, FindFake);
  EXPECT_FALSE(survey.nccl.has_value());
  EXPECT_EQ(DeviceSurveyText(survey).find("NCCL"), std::string::npos);
}

TEST_F(Devices, ABuildWithoutCudaIsRefusedAndItsNcclToldAllTheSame) {
  const DeviceSurvey survey = SurveyDevices(nccl_, FindNone);
  EXPECT_EQ(Verdict(survey).message(), "this build has none");
  EXPECT_THAT(DeviceSurveyText(survey), HasSubstr("CUDA: this build has none\nNCCL 2.30.3 ("));
}

TEST_F(Devices, WithoutADriverTheFirstSaysWhy) {
  machine.driver_version = 0;
  machine.devices = 0;
  const DeviceSurvey survey = SurveyDevices({}, FindFake);
  EXPECT_EQ(Verdict(survey).message(), "cuda:0: there is no CUDA driver on this machine");
  EXPECT_EQ(DeviceSurveyText(survey),
            "CUDA: the driver's is none, this build's 13.0\n"
            "  not usable: cuda:0: there is no CUDA driver on this machine\n");
}

TEST_F(Devices, AnNcclThatCannotBeUsedIsRefused) {
  setenv("SHEAF_FAKE_NCCL_INIT", "never", 1);
  DeviceSurvey survey = SurveyDevices(nccl_, FindFake);
  EXPECT_EQ(Verdict(survey).message(),
            "NCCL: ncclCommInitRankConfig: not done within 50 ms, aborted");
  EXPECT_THAT(DeviceSurveyText(survey), HasSubstr("  a unique id: made\n  not usable: NCCL: "));
  survey = SurveyDevices({.nccl_library = "/nowhere/libnccl.so.2"}, FindFake);
  EXPECT_THAT(std::string(Verdict(survey).message()), HasSubstr("/nowhere/libnccl.so.2: cannot "));
  EXPECT_THAT(DeviceSurveyText(survey), HasSubstr("\nNCCL\n  not usable: /nowhere/libnccl.so.2: "));
}

}  // namespace
}  // namespace sheaf
