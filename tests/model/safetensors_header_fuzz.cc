// Any bytes as a safetensors file: an error or tensors that lie inside the file, never a crash.

#include <cstdlib>

#include "model/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto tensors = sheaf::ParseSafetensorsHeader({data, size}, size, "fuzz");
  if (!tensors.ok()) return 0;
  for (const sheaf::TensorInfo& tensor : *tensors) {
    if (tensor.offset > size || tensor.bytes > size - tensor.offset) std::abort();
  }
  return 0;
}
