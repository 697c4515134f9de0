#include "model/absent_tensors.h"

#include <map>
#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "model/model_layout.h"

namespace sheaf {
namespace {

constexpr std::string_view kMtpFile = "mtp";

bool IsNeeded(const AbsentTensor& tensor, const ModelConfig& config) {
  const ModelPart part = PartOf(tensor.name, config);
  const bool in_mtp_file = tensor.shard.compare(0, kMtpFile.size(), kMtpFile) == 0;
  return part != ModelPart::kMtp && !(in_mtp_file && part == ModelPart::kOther);
}

absl::Status Needed(const Checkpoint& checkpoint, const AbsentTensor& tensor) {
  if (tensor.shard_exists) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: tensor %s: wanted in shard %s, got no shard that has it",
                        checkpoint.index_path(), tensor.name, tensor.shard));
  }
  return absl::NotFoundError(absl::StrFormat(
      "%s/%s: missing shard: %s names it, e.g. for tensor %s", checkpoint.directory(), tensor.shard,
      checkpoint.index_path(), tensor.name));
}

}  // namespace

absl::StatusOr<std::vector<std::string>> JudgeAbsentTensors(const Checkpoint& checkpoint,
                                                            const ModelConfig& config) {
  struct Absence {
    int tensors = 0;
    bool shard_exists = false;
  };
  std::map<std::string, Absence> by_shard;
  for (const AbsentTensor& tensor : checkpoint.absent_tensors()) {
    if (IsNeeded(tensor, config)) return Needed(checkpoint, tensor);
    Absence& absence = by_shard[tensor.shard];
    ++absence.tensors;
    absence.shard_exists = tensor.shard_exists;
  }
  std::vector<std::string> remarks;
  for (const auto& [shard, absence] : by_shard) {
    remarks.push_back(absl::StrFormat(
        "%s: %d tensors of layers beyond the %d of the model (MTP, not served) should be in %s, "
        "which %s",
        checkpoint.index_path(), absence.tensors, config.num_layers, shard,
        absence.shard_exists ? "does not have them" : "is not there"));
  }
  return remarks;
}

}  // namespace sheaf
