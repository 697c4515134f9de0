#include "cli/options/checkpoint_flags.h"

#include <CLI/CLI.hpp>
#include <map>
#include <string>

#include "cli/options/lm_head_flag.h"
#include "cli/options/one_of.h"

namespace sheaf {
namespace {

const std::map<std::string, RepackFormat> kRepackFormats = {
    {"gptq", RepackFormat::kGptq},
    {"gptq_v2", RepackFormat::kGptqV2},
    {"auto-round", RepackFormat::kAutoRound},
    {"compressed-tensors", RepackFormat::kCompressedTensors},
};

}  // namespace

void AddInspectFlags(CLI::App& app, InspectOptions& options) {
  app.add_option("checkpoint", options.checkpoint, "Directory")->required();
  app.add_flag("--json", options.json, "One JSON object instead of text");
  app.add_option("--workers", options.workers, "Divide the experts among this many")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_option("--tensor-parallel-size", options.tensor_parallel_size,
                 "Also the memory of each of so many attention ranks")
      ->check(CLI::Range(1, 1024));
  app.add_option("--max-model-len", options.max_model_len,
                 "Tokens in their KV cache; default: the model's longest sequence")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 31));
  AddLmHeadFlag(app, options.lm_head);
  app.add_option("--kv-cache-dtype", options.kv_cache_dtype,
                 "Of that cache, as `sheaf serve` takes it")
      ->capture_default_str();
  app.add_option("--latent-cache", options.latent_cache,
                 "How ranks keep it, as `sheaf serve` takes it")
      ->check(CLI::IsMember({"split", "whole"}))
      ->capture_default_str();
  app.add_option(
         "--device-memory", options.device_memory_bytes,
         "Whether each rank, with the worker of its number where there are as many, fits into "
         "this, e.g. 24GiB")
      ->transform(CLI::AsSizeValue(false));
  app.add_option("--memory-bandwidth", options.memory_bandwidth,
                 "Also how long a step would take, where each rank and each worker reads so many "
                 "bytes of weights a "
                 "second, e.g. 400GB")
      ->transform(CLI::AsSizeValue(true));
  app.add_option("--worker-memory-bandwidth", options.worker_memory_bandwidth,
                 "Of each worker, where it is another than a rank's")
      ->transform(CLI::AsSizeValue(true));
  app.add_option("--multiply-adds", options.multiply_adds,
                 "A second, of each rank and each worker, e.g. 500G; 0 = never the bound")
      ->transform(CLI::AsSizeValue(true));
  app.add_option("--link-bandwidth", options.link_bandwidth,
                 "Bytes a second of each one's network, e.g. 12GB; 0 = they are of one host")
      ->transform(CLI::AsSizeValue(true));
  app.add_option("--link-latency-us", options.link_latency_us,
                 "Of a message between two of them, microseconds")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str();
  app.add_flag(
      "--shared-cores", options.shared_cores,
      "Ranks and workers have the same cores: the shared expert takes its time from the workers");
}

void AddVerifyFlags(CLI::App& app, VerifyOptions& options) {
  app.add_option("checkpoint", options.checkpoint, "Directory")->required();
  app.add_flag("--json", options.json, "One JSON object instead of text");
  app.add_flag("--reference", options.reference,
               "Compare rows of every Linear with the scalar kernels too");
  app.add_option("--rows", options.rows, "Rows of each Linear that --reference compares")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--seed", options.seed, "Of those rows; default: random")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--threads", options.threads, "0 = the cores that it may use")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
}

void AddRepackFlags(CLI::App& app, RepackOptions& options) {
  app.add_option("checkpoint", options.checkpoint, "Directory")->required();
  app.add_option("output", options.output, "Directory to make; must not exist")->required();
  app.add_option("--format", options.format, "What to write")
      ->transform(OneOf(kRepackFormats))
      ->required();
}

}  // namespace sheaf
