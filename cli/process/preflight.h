#pragma once
// Preflight: everything that is known of a checkpoint before a tensor is read, and whether it can
// be served. `sheaf inspect` prints it, `sheaf serve` and `sheaf router` run it first and start
// from the parts that it opened, so that none of them says what another denies.
//
// In order: tensor headers, config.json and the files beside it, every tensor that the model needs,
// tokenizer, chat template, what grammars need of them, KV cache (against the memory that there is)
// and --max-model-len. The first
// fault is the report's refusal; remarks are what is served all the same and an operator should
// know.
//
// Threads    pure but for opening files. Nothing of the size of a tensor is allocated.
// Errors     none: a checkpoint that cannot be read is a report with a refusal.
// Cost       below a second for 200 000 tensors, and the loading of tokenizer and grammar tables:
//            0.7 s at 150 000 tokens.

#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "base/memory_limits.h"
#include "cli/commands/checkpoint_text.h"
#include "cli/options/options.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/inspect/inspect.h"
#include "router/attention/kv_cache.h"

namespace sheaf {

struct Preflight {
  InspectReport report;
  // What could be opened; all of them where the report has no refusal.
  std::unique_ptr<Checkpoint> checkpoint;
  std::optional<ModelConfig> config;
  std::unique_ptr<CheckpointText> text;
  StopIdPlan stop_ids;    // of every source; `config` has their ids
  int max_model_len = 0;  // tokens of a request: what the flags, the model and the KV cache allow
  KvCacheOptions kv_cache;
};

// `memory` null: whether this machine has enough of it does not matter.
Preflight RunPreflight(const RouterOptions& options, const MemoryLimits* memory);

// A worker's part: config, tensor headers, every routed expert.
struct WorkerPreflight {
  std::unique_ptr<Checkpoint> checkpoint;
  ModelConfig config;
};
// Errors: the sentence that RunPreflight's report has for the same fault.
absl::StatusOr<WorkerPreflight> RunWorkerPreflight(const std::string& checkpoint_dir);

}  // namespace sheaf
