#include "tests/kernels/cuda/tested_experts.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "kernels/experts/expert_memory_cuda.h"

namespace sheaf::kernels::cuda {
namespace {

IntegerOptions Sized(IntegerOptions options, int n, int k) {
  options.n = n;
  options.k = k;
  return options;
}

}  // namespace

ExpertFormat FormatOf(const IntegerOptions& all) {
  return {.gate = all, .up = all, .down = all, .same_permutation = false};
}

TestedExpert::TestedExpert(std::mt19937& random, int hidden, int intermediate,
                           const ExpertFormat& format, const DeviceLimits& limits) {
  gate_ = std::make_unique<RandomLinear>(random, Sized(format.gate, intermediate, hidden));
  up_ = std::make_unique<RandomLinear>(random, Sized(format.up, intermediate, hidden));
  down_ = std::make_unique<RandomLinear>(random, Sized(format.down, hidden, intermediate));
  host_ = {gate_->linear(), up_->linear(), down_->linear()};
  if (format.same_permutation) host_.up.w4.permutation = host_.gate.w4.permutation;
  const absl::StatusOr<ExpertMemory> memory = ExpertMemory::Plan(host_);
  EXPECT_TRUE(memory.ok()) << memory.status();
  memory_ = std::make_unique<DeviceBytes>(memory->bytes());
  // Small pieces: every tensor of the larger tests comes in several.
  for (const ExpertPiece& piece : memory->Pieces(host_, 40000)) {
    std::byte* at = memory_->as() + piece.at;
    std::memcpy(at, piece.host, piece.bytes);
    if (!piece.codes) continue;
    EXPECT_EQ(RetileCodes(limits, reinterpret_cast<uint8_t*>(at), piece.bytes, nullptr), 0);
    EXPECT_EQ(FinishLaunches(), "");
  }
  device_ = memory->At(memory_->as());
}

std::vector<float> RunOnDevice(const BatchRun& run, const QuantizedRows& x,
                               const std::vector<const TestedExpert*>& experts,
                               const std::vector<std::vector<int32_t>>& rows) {
  std::vector<ExpertBatchJob> jobs;
  size_t num_rows = 0;
  for (size_t i = 0; i < experts.size(); ++i) {
    jobs.push_back({&experts[i]->device(), rows[i]});
    num_rows += rows[i].size();
  }
  // Poison where the plan writes nothing.
  std::vector<std::byte> staged(ExpertPlanLayout(run.shape).bytes, std::byte{0xff});
  PlanHead head;
  const absl::Status planned = PlanExperts(run.shape, x.num_rows, jobs, staged, head);
  EXPECT_TRUE(planned.ok()) << planned;
  if (!planned.ok()) return {};
  const size_t groups = size_t(x.num_rows) * x.groups();
  const DeviceBytes plan(staged.data(), staged.size());
  const DeviceBytes scratch(ExpertScratchLayout(run.shape).bytes);
  const DeviceBytes planes(x.planes, 256 * groups);
  const DeviceBytes scales(x.scales, sizeof(float) * groups);
  const DeviceBytes sums(x.sums, sizeof(int32_t) * kSumsPerGroup * groups);
  const DeviceBytes out(sizeof(float) * num_rows * run.shape.hidden);
  const ExpertBuffers buffers = {.plan = plan.as(),
                                 .scratch = scratch.as(),
                                 .planes = planes.as<int8_t>(),
                                 .scales = scales.as<float>(),
                                 .sums = run.sums_come_along ? sums.as<int32_t>() : nullptr,
                                 .out = out.as<float>()};
  const int error =
      LaunchExperts(run.limits, run.shape, run.launch_head.value_or(head), buffers, nullptr);
  const std::string fault = FinishLaunches();
  EXPECT_EQ(error, 0) << fault;
  EXPECT_EQ(fault, "");
  if (error != 0 || !fault.empty()) return {};
  return std::vector<float>(out.as<float>(), out.as<float>() + num_rows * run.shape.hidden);
}

std::vector<float> RunOnHost(const QuantizedRows& x, int hidden,
                             const std::vector<const TestedExpert*>& experts,
                             const std::vector<std::vector<int32_t>>& rows) {
  std::vector<float> out;
  for (size_t i = 0; i < experts.size(); ++i) {
    std::vector<float> one(rows[i].size() * hidden);
    ref::RunExpert(x, {&experts[i]->host(), rows[i], one.data()});
    out.insert(out.end(), one.begin(), one.end());
  }
  return out;
}

}  // namespace sheaf::kernels::cuda
