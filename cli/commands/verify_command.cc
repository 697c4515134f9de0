// `sheaf verify`: reads every byte of a checkpoint; status 1 when something is wrong with it.

#include <cstdio>
#include <random>
#include <string>

#include "base/cpu_topology.h"
#include "base/thread_pool.h"
#include "cli/commands/commands.h"
#include "cli/process/preflight.h"
#include "cli/process/process_setup.h"
#include "model/verify/reference_rows.h"
#include "model/verify/verify.h"

namespace sheaf {

int RunVerify(const VerifyOptions& options) {
  RouterOptions serving;
  serving.process.checkpoint = options.checkpoint;
  const Preflight preflight = RunPreflight(serving, nullptr);
  const std::string& refusal = preflight.report.refusal;
  const ModelConfig* const config = preflight.config ? &*preflight.config : nullptr;
  VerifyReport report;
  if (preflight.checkpoint == nullptr) {
    report.directory = options.checkpoint;
    report.AddFault(refusal);
  } else {
    ThreadPool pool(options.threads > 0 ? options.threads : DetectCpuTopology().default_threads());
    report = VerifyCheckpoint(*preflight.checkpoint, config, refusal, pool);
    if (options.reference && config != nullptr) {
      const uint64_t seed = options.seed ? *options.seed : std::random_device{}();
      CompareWithReference(*preflight.checkpoint, *config, {.rows = options.rows, .seed = seed},
                           pool, report);
    }
  }
  std::fputs((options.json ? VerifyJson(report) : VerifyText(report)).c_str(), stdout);
  if (report.num_faults == 0) return 0;
  return Fail(absl::DataLossError(report.faults.front()));
}

}  // namespace sheaf
