#pragma once
// CompareWithReference: whether the loaded form of each Linear and the fast kernels give the bits
// that the scalar kernels give of rows loaded by themselves.
//
// Each Linear is loaded whole and multiplied by one random activation with the kernels of this
// machine; sampled blocks of 16 rows are loaded again, alone, and multiplied by namespace ref.
//
// Threads    Linears are divided among the pool's threads.
// Memory     one loaded Linear a thread.
// Errors     what cannot be loaded, and each Linear that differs, is a fault in `report`.

#include <cstdint>

#include "base/thread_pool.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/verify/verify.h"

namespace sheaf {

struct ReferenceOptions {
  int rows = 16;  // of each Linear, rounded up to whole blocks of 16
  uint64_t seed = 0;
};

void CompareWithReference(const Checkpoint& checkpoint, const ModelConfig& config,
                          const ReferenceOptions& options, ThreadPool& pool, VerifyReport& report);

}  // namespace sheaf
