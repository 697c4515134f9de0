#pragma once
// What a checkpoint holds, what of it contradicts its config, what each process would load, or why
// it cannot be served. From headers and from zero points (model/quantization/zero_point_survey.h).
//
// Threads    pure but for opening files.
// Errors     none: a checkpoint that cannot be read is a report with a `refusal`.
// Cost       200 000 tensors in 56 shards take well under a second, and the zero points are read.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/lm_head.h"
#include "model/model_layout.h"

namespace sheaf {

// Tensors of one part of the model that are stored alike.
struct TensorGroup {
  ModelPart part = ModelPart::kOther;
  std::string format;     // "gptq", "awq", "pack-quantized", "fp8", or a dtype: "bf16"
  int bits = 0;           // of a weight
  int group_size = 0;     // inputs a scale; 0 = none, -1 = all (fp8)
  int block_rows = 0;     // fp8: outputs a scale, -1 = all; otherwise 0
  bool symmetric = true;  // no zero points but symmetric ones
  uint64_t modules = 0;   // Linears, or plain tensors
  uint64_t tensors = 0;
  uint64_t bytes = 0;
};

struct ProcessShare {
  std::string process;   // "router", "worker 0"
  int first_expert = 0;  // of every MoE layer
  int num_experts = 0;
  // Of the tensors that it keeps as they are stored, and of a head that becomes 8-bit integers.
  uint64_t bytes = 0;
  // Of kv_b_proj of latent attention, which it keeps taken apart: model/attention/absorbed_kv.h.
  uint64_t absorbed_bytes = 0;
};

struct InspectReport {
  std::string directory;
  std::string model_type;
  int layers = 0;
  int experts = 0;
  uint64_t shards = 0;
  uint64_t tensors = 0;
  uint64_t bytes = 0;
  std::vector<TensorGroup> groups;         // by part, then bytes
  std::vector<std::string> disagreements;  // with the config; the checkpoint is served all the same
  std::vector<std::string> remarks;        // on everything else; it is served all the same
  std::vector<ProcessShare> processes;     // empty when refused
  std::string refusal;                     // empty = can be served
};

// num_workers 0: the router holds the experts.
InspectReport InspectCheckpoint(const std::string& directory, int num_workers);

// The same for an open checkpoint. `config` may be the error of reading it.
InspectReport InspectTensors(const Checkpoint& checkpoint,
                             const absl::StatusOr<ModelConfig>& config, int num_workers,
                             LmHeadDtype lm_head = LmHeadDtype::kAuto);

// What `sheaf serve` logs as warnings: disagreements, then remarks.
std::vector<std::string> AllRemarks(const InspectReport& report);

// JSON: the members of the report by name, "remarks" being AllRemarks.
std::string InspectText(const InspectReport& report);
std::string InspectJson(const InspectReport& report);

}  // namespace sheaf
