#pragma once
// The seam between who asks experts and what computes them.
//
//   HeldExpert     one expert in some engine's memory, the host's or a device's; opaque
//   ExpertCompute  runs held experts on quantized rows: one float vector a (row, expert) pair
//   HeldExperts    a process's held experts by (layer, expert), with what computes them
//
//   Submit(batch) ... Submit(batch) ... Complete(out) or Abandon()     oldest first
//
// A device computes between Submit and Complete while the host reads the next dispatch; the CPU
// does it all in Complete.
//
// Shapes     batch.x [tokens][hidden]; job.rows index x; out [pairs][hidden] floats, job by job, in
//            each in the order of its rows.
// Numbers    as kernels/experts/expert_ffn.h: every implementation gives the same bytes.
// Ownership  a batch is borrowed, with all that it points to, from Submit until its end.
//            Letting go of the last HeldExpertPtr gives the expert's memory back.
// Threads    ExpertCompute: one, the owner of the pool that it was made for. HeldExperts,
//            HeldExpert: any.
// Errors     Submit, Complete: what has happened to the device. The batch has then ended without an
//            answer: one that Submit refused is not completed, one that Complete failed is over.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "absl/status/status.h"
#include "base/ids.h"
#include "base/thread_pool.h"
#include "kernels/linear/quantized_rows.h"

namespace sheaf {

namespace kernels {
struct ExpertWeights;
}

class HeldExpert {
 public:
  virtual ~HeldExpert() = default;
  virtual int hidden_size() const = 0;         // inputs of a row
  // of the engine's memory; 0: somebody else counts them
  virtual size_t resident_bytes() const = 0;
};
using HeldExpertPtr = std::shared_ptr<const HeldExpert>;

struct HeldExpertJob {
  const HeldExpert* expert = nullptr;  // of the engine whose compute runs it
  std::span<const int32_t> rows;       // ascending
};

struct ExpertBatch {
  LayerId layer;             // for errors
  kernels::QuantizedRows x;  // `sums` may be null: they are made then
  std::span<const HeldExpertJob> jobs;
};

class ExpertCompute {
 public:
  virtual ~ExpertCompute() = default;
  // Batches that may be submitted and not completed, >= 1.
  virtual int depth() const = 0;
  virtual absl::Status Submit(const ExpertBatch& batch) = 0;
  // The oldest one.
  virtual absl::Status Complete(float* out) = 0;
  // The oldest one, whose answer nobody wants.
  virtual void Abandon() = 0;
};

using NewExpertCompute = std::function<std::unique_ptr<ExpertCompute>(ThreadPool& pool)>;

class HeldExperts {
 public:
  virtual ~HeldExperts() = default;
  // Null when this process does not hold it. Whoever has the pointer keeps the expert alive.
  virtual HeldExpertPtr Find(LayerId layer, ExpertId expert) const = 0;
  // For the thread that owns the pool, which outlives it.
  virtual std::unique_ptr<ExpertCompute> NewCompute(ThreadPool& pool) const = 0;
  // An expert in the host's memory, which outlives it, for the computes of NewCompute. Null: they
  // compute elsewhere.
  virtual HeldExpertPtr Borrow(const kernels::ExpertWeights& /*weights*/) const { return nullptr; }
};

}  // namespace sheaf
