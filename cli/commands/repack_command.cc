// `sheaf repack`: the same checkpoint in another 4-bit file format.

#include <cstdio>

#include "cli/commands/commands.h"
#include "model/repack/repack.h"

namespace sheaf {

int RunRepack(const RepackOptions& options) {
  const absl::StatusOr<RepackSummary> summary =
      RepackCheckpoint(options.checkpoint, options.output, options.format);
  if (!summary.ok()) {
    std::fprintf(stderr, "sheaf: %s\n", std::string(summary.status().message()).c_str());
    return 1;
  }
  std::printf("%s: %d 4-bit matrices repacked, %d tensors copied, %.1f MB\n",
              options.output.c_str(), summary->quantized_linears, summary->copied_tensors,
              static_cast<double>(summary->bytes) / 1e6);
  return 0;
}

}  // namespace sheaf
