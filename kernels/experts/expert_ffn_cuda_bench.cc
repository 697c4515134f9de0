// Routed experts on this machine's GPU: batches of 8 experts with GLM-4.6's widths and of 8 with
// GLM-5.1's, 1 to 512 rows an expert.
//
//   bytes_per_second   weights read once / time; `of_copy`: against what a copy within the device
//                      moves in the same run (reads and writes)
//   macs_per_second    products of a weight and an activation
// Experts change from one iteration to the next, so that the second-level cache holds none of them.
#include <benchmark/benchmark.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/experts/expert_ffn_cuda.h"

namespace sheaf::kernels::cuda {
namespace {

constexpr int kActive = 8;

class DeviceBuffer {
 public:
  explicit DeviceBuffer(size_t bytes) { ok_ = cudaMalloc(&data_, bytes) == cudaSuccess; }
  ~DeviceBuffer() { cudaFree(data_); }
  DeviceBuffer(const DeviceBuffer&) = delete;
  bool ok() const { return ok_; }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void* data_ = nullptr;
  bool ok_ = false;
};

// Seconds of `work` on the default stream.
template <typename Work>
double Time(const Work& work) {
  cudaEvent_t begin, end;
  cudaEventCreate(&begin);
  cudaEventCreate(&end);
  cudaEventRecord(begin, nullptr);
  work();
  cudaEventRecord(end, nullptr);
  cudaEventSynchronize(end);
  float milliseconds = 0;
  cudaEventElapsedTime(&milliseconds, begin, end);
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  return milliseconds * 1e-3;
}

// Bytes a second, read and written, of a copy of 1 GiB.
double CopyBandwidth() {
  static const double bandwidth = [] {
    const size_t bytes = size_t{1} << 30;
    const DeviceBuffer from(bytes), to(bytes);
    double best = 0;
    for (int i = 0; i < 10; ++i) {
      const double seconds = Time([&] {
        cudaMemcpyAsync(to.as<void>(), from.as<void>(), bytes, cudaMemcpyDeviceToDevice, nullptr);
      });
      best = std::max(best, 2.0 * bytes / seconds);
    }
    return best;
  }();
  return bandwidth;
}

// Codes and scales of one matrix: what they are does not matter to the time.
DeviceMatrix MatrixIn(uint8_t*& at, int n, int k) {
  DeviceMatrix w;
  w.n = n;
  w.k = k;
  w.codes = at;
  at += size_t(n) * k / 2;
  w.scales = at;
  at += size_t(n) * k / kActivationGroup * 2;
  return w;
}

void Experts(benchmark::State& state) {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    state.SkipWithError("no CUDA device");
    return;
  }
  const int hidden = static_cast<int>(state.range(0)),
            intermediate = static_cast<int>(state.range(1));
  const int rows = static_cast<int>(state.range(2));
  DeviceLimits limits;
  if (ReadDeviceLimits(limits) != 0 || PrepareExpertKernels(limits) != 0) {
    state.SkipWithError("the kernels cannot be prepared");
    return;
  }
  const size_t expert_bytes = size_t{3} * hidden * intermediate / 128 * (64 + 2);
  const int held = 64;
  const DeviceBuffer weights(expert_bytes * held);
  const ExpertBatchShape shape = {.hidden = hidden,
                                  .intermediate = intermediate,
                                  .max_tokens = rows,
                                  .max_jobs = kActive,
                                  .max_rows = kActive * rows};
  const size_t plan_bytes = ExpertPlanLayout(shape).bytes;
  const size_t groups = size_t(rows) * NumGroups(hidden);
  const DeviceBuffer plans(plan_bytes * (held / kActive)),
      scratch(ExpertScratchLayout(shape).bytes), planes(256 * groups), scales(4 * groups),
      out(size_t{4} * kActive * rows * hidden);
  if (!weights.ok() || !plans.ok() || !scratch.ok() || !planes.ok() || !scales.ok() || !out.ok()) {
    state.SkipWithError("out of device memory");
    return;
  }
  cudaMemset(weights.as<void>(), 0x35, expert_bytes * held);
  cudaMemset(planes.as<void>(), 1, 256 * groups);
  cudaMemset(scales.as<void>(), 0x3c, 4 * groups);
  std::vector<DeviceExpert> experts(held);
  uint8_t* at = weights.as<uint8_t>();
  for (DeviceExpert& expert : experts) {
    expert = {MatrixIn(at, intermediate, hidden), MatrixIn(at, intermediate, hidden),
              MatrixIn(at, hidden, intermediate)};
  }
  std::vector<int32_t> all(rows);
  for (int i = 0; i < rows; ++i) all[i] = i;
  PlanHead head;
  std::vector<std::byte> plan(plan_bytes);
  for (int batch = 0; batch < held / kActive; ++batch) {
    std::vector<ExpertBatchJob> jobs;
    for (int i = 0; i < kActive; ++i) jobs.push_back({&experts[batch * kActive + i], all});
    if (!PlanExperts(shape, rows, jobs, plan, head).ok()) {
      state.SkipWithError("no plan");
      return;
    }
    cudaMemcpy(plans.as<std::byte>() + plan_bytes * batch, plan.data(), plan_bytes,
               cudaMemcpyHostToDevice);
  }
  int batch = 0;
  for (auto _ : state) {
    const ExpertBuffers buffers = {.plan = plans.as<std::byte>() + plan_bytes * batch,
                                   .scratch = scratch.as<std::byte>(),
                                   .planes = planes.as<int8_t>(),
                                   .scales = scales.as<float>(),
                                   .sums = nullptr,
                                   .out = out.as<float>()};
    int error = 0;
    state.SetIterationTime(
        Time([&] { error = LaunchExperts(limits, shape, head, buffers, nullptr); }));
    if (error != 0 || cudaGetLastError() != cudaSuccess) {
      state.SkipWithError("a launch failed");
      return;
    }
    batch = (batch + 1) % (held / kActive);
  }
  using benchmark::Counter;
  const double bytes = static_cast<double>(expert_bytes) * kActive;
  state.counters["bytes_per_second"] = Counter(bytes, Counter::kIsIterationInvariantRate);
  state.counters["of_copy"] = Counter(bytes / CopyBandwidth(), Counter::kIsIterationInvariantRate);
  state.counters["macs_per_second"] =
      Counter(3.0 * hidden * intermediate * kActive * rows, Counter::kIsIterationInvariantRate);
}

void Sizes(benchmark::internal::Benchmark* bench) {
  for (int rows : {1, 2, 4, 8, 16, 32, 64, 128, 512}) {
    bench->Args({5120, 1536, rows});
    bench->Args({6144, 2048, rows});
  }
}
BENCHMARK(Experts)->Apply(Sizes)->ArgNames({"hidden", "intermediate", "rows"})->UseManualTime();

}  // namespace
}  // namespace sheaf::kernels::cuda

BENCHMARK_MAIN();
