#include "cli/options/process_flags.h"

#include <CLI/CLI.hpp>

namespace sheaf {

void AddProcessFlags(CLI::App& app, ProcessOptions& options) {
  app.add_option("checkpoint", options.checkpoint,
                 "Directory with config.json and safetensors files")
      ->required();
  app.add_option("--cpu-target", options.cpu_target,
                 "Instruction set of the kernels: auto, avx2, avx512, avx512_vnni, neon, neon_dot or "
                 "scalar")
      ->capture_default_str();
  app.add_option("--log-level", options.log_level)
      ->check(CLI::IsMember({"debug", "info", "warn", "error"}))
      ->capture_default_str();
  app.add_option("--log-format", options.log_format)
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
}

void AddNumaNodeFlag(CLI::App& app, ProcessOptions& options) {
  app.add_option("--numa-node", options.numa_node,
                 "NUMA node, as numactl --hardware numbers them: the process runs on its cores and "
                 "takes memory from it alone; -1 = any")
      ->check(CLI::Range(-1, 1023))
      ->capture_default_str();
}

void AddConfigFlag(CLI::App& app) {
  app.add_option("--config", "YAML file with the same names, e.g. max-model-len: 4096");
}

}  // namespace sheaf
