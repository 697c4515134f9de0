#pragma once
// KvScales: the calibrated scales of a layer's cached keys and values, which quantizers write for
// fp8 caches: a cached element is e4m3(x / scale), and stands for scale times that.
//
// Tensors    of one element under model.layers.N.self_attn: k_scale and v_scale, the same under
//            attn., k_proj.k_scale and v_proj.v_scale, or output_scale of k_proj and v_proj;
//            kv_scale stands for both. Those of several elements (a scale a head) are not used.
// Threads    pure.
// Errors     kInvalidArgument naming the tensor: another dtype than bf16, f16, f32, or a value that
//            is not finite and above 0.

#include <vector>

#include "absl/status/statusor.h"
#include "model/checkpoint.h"

namespace sheaf {

struct KvScales {
  float k = 1.0f;
  float v = 1.0f;

  bool identity() const { return k == 1.0f && v == 1.0f; }
};

absl::StatusOr<KvScales> ReadKvScales(const Checkpoint& checkpoint, int layer);

// Every tensor of the layer with such a name.
std::vector<const TensorInfo*> KvScaleTensors(const Checkpoint& checkpoint, int layer);
bool IsUsableKvScale(const TensorInfo& tensor);

}  // namespace sheaf
