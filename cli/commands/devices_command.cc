// `sheaf devices`: the GPUs of this machine and its NCCL; status 1 when what was asked for cannot
// be used.

#include <cstdio>

#include "cli/commands/commands.h"
#include "cli/commands/device_survey.h"
#include "cli/process/process_setup.h"

namespace sheaf {

int RunDevices(const DevicesOptions& options, CudaFinder find_cuda) {
  const DeviceSurvey survey = SurveyDevices(options, find_cuda);
  std::fputs(DeviceSurveyText(survey).c_str(), stdout);
  const absl::Status verdict = Verdict(survey);
  return verdict.ok() ? 0 : Fail(verdict);
}

}  // namespace sheaf
