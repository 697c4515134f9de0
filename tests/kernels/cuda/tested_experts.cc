#include "tests/kernels/cuda/tested_experts.h"

#include <gtest/gtest.h>

#include <string>

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
  device_ = {Load(host_.gate, limits), Load(host_.up, limits), Load(host_.down, limits)};
  if (format.same_permutation) device_.up.permutation = device_.gate.permutation;
}

DeviceMatrix TestedExpert::Load(const Linear& linear, const DeviceLimits& limits) {
  const PackedW4& w = linear.w4;
  DeviceMatrix device;
  device.n = w.n;
  device.k = w.k;
  device.segment = w.segment;
  device.scale_format = w.scale_format;
  const auto copy = [&](const void* from, size_t bytes) {
    memory_.emplace_back(from, bytes);
    return memory_.back().as<uint8_t>();
  };
  uint8_t* codes = copy(w.codes, w.code_bytes());
  // In two slices where there are two row blocks.
  const size_t slice = w.code_bytes() / w.row_blocks() * (w.row_blocks() / 2);
  EXPECT_EQ(RetileCodes(limits, codes, slice, nullptr), 0);
  EXPECT_EQ(RetileCodes(limits, codes + slice, w.code_bytes() - slice, nullptr), 0);
  EXPECT_EQ(FinishLaunches(), "");
  device.codes = codes;
  device.scales = copy(w.scales, w.scale_count() * ScaleBytes(w.scale_format));
  if (w.zeros != nullptr) device.zeros = copy(w.zeros, w.scale_count());
  if (linear.bias != nullptr) {
    device.bias = reinterpret_cast<const float*>(copy(linear.bias, sizeof(float) * w.n));
  }
  if (w.permutation != nullptr) {
    device.permutation =
        reinterpret_cast<const int32_t*>(copy(w.permutation, sizeof(int32_t) * w.k));
  }
  return device;
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
  std::vector<std::byte> staged(ExpertPlanLayout(run.shape).bytes);
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
