#include "model/attention/kv_scales.h"

#include <cmath>
#include <string>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "model/formats/tensor_checks.h"
#include "model/linear_loader.h"
#include "model/model_layout.h"

namespace sheaf {
namespace {

constexpr const char* kKeyNames[] = {".k_scale", ".attn.k_scale", ".k_proj.k_scale",
                                     ".k_proj.output_scale"};
constexpr const char* kValueNames[] = {".v_scale", ".attn.v_scale", ".v_proj.v_scale",
                                       ".v_proj.output_scale"};
constexpr char kBothName[] = ".kv_scale";

std::string Prefix(int layer) { return LayerPrefix(layer) + ".self_attn"; }

// The first of the names that is there and has one element.
absl::Status ReadFirst(const Checkpoint& checkpoint, const std::string& prefix,
                       std::span<const char* const> names, float& out) {
  for (const char* name : names) {
    const TensorInfo* tensor = checkpoint.Find(prefix + name);
    if (tensor == nullptr || !IsUsableKvScale(*tensor)) continue;
    SHEAF_RETURN_IF_ERROR(CheckDtype(*tensor, kFloatDtypes));
    SHEAF_ASSIGN_OR_RETURN(const float value, LoadFloat(checkpoint, *tensor));
    if (!(value > 0.0f))
      return TensorError(*tensor, "a scale above 0", absl::StrFormat("%g", value));
    out = value;
    return absl::OkStatus();
  }
  return absl::OkStatus();
}

}  // namespace

bool IsUsableKvScale(const TensorInfo& tensor) {
  for (const int64_t extent : tensor.shape) {
    if (extent != 1) return false;
  }
  return true;
}

std::vector<const TensorInfo*> KvScaleTensors(const Checkpoint& checkpoint, int layer) {
  std::vector<const TensorInfo*> found;
  const auto add = [&](const char* name) {
    if (const TensorInfo* tensor = checkpoint.Find(Prefix(layer) + name)) found.push_back(tensor);
  };
  for (const char* name : kKeyNames) add(name);
  for (const char* name : kValueNames) add(name);
  add(kBothName);
  return found;
}

absl::StatusOr<KvScales> ReadKvScales(const Checkpoint& checkpoint, int layer) {
  const std::string prefix = Prefix(layer);
  KvScales scales;
  const char* const both[] = {kBothName};
  SHEAF_RETURN_IF_ERROR(ReadFirst(checkpoint, prefix, both, scales.k));
  scales.v = scales.k;
  SHEAF_RETURN_IF_ERROR(ReadFirst(checkpoint, prefix, kKeyNames, scales.k));
  SHEAF_RETURN_IF_ERROR(ReadFirst(checkpoint, prefix, kValueNames, scales.v));
  return scales;
}

}  // namespace sheaf
