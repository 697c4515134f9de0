#include "model/verify/reference_rows.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "kernels/linear/linear.h"
#include "kernels/linear/packed_w4.h"
#include "model/linear_loader.h"
#include "model/verify/tensor_roles.h"

namespace sheaf {
namespace {

absl::StatusOr<LoadedLinear> LoadRows(const Checkpoint& checkpoint, const LinearPlan& plan,
                                      const LinearSlice& slice, LoadScratch& scratch) {
  SHEAF_ASSIGN_OR_RETURN(const std::shared_ptr<PackedArena> arena,
                         PackedArena::Reserve(MaxArenaBytes(plan, slice)));
  return LoadPlannedLinear(checkpoint, plan, slice, arena, scratch);
}

// The rows compared, or the first one that differs.
absl::StatusOr<int> Compare(const Checkpoint& checkpoint, const LinearPlan& plan,
                            const ReferenceOptions& options) {
  std::mt19937_64 random(options.seed ^ std::hash<std::string>()(plan.prefix));
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<size_t>(plan.k));
  for (float& value : x) value = normal(random);
  const kernels::Activations activations = {
      .num_rows = 1, .k = plan.k, .floats = x.data(), .quantized = {}};

  LoadScratch scratch;
  SHEAF_ASSIGN_OR_RETURN(const LoadedLinear whole, LoadRows(checkpoint, plan, {}, scratch));
  std::vector<float> fast(static_cast<size_t>(plan.n));
  ThreadPool alone(1);
  const kernels::LinearCall call = {&whole.view(), &activations, fast.data(), plan.n};
  kernels::RunLinears(alone, {&call, 1});

  constexpr int kBlock = kernels::kRowBlock;
  const int blocks = std::min(kernels::NumRowBlocks(plan.n), kernels::NumRowBlocks(options.rows));
  int compared = 0;
  for (int i = 0; i < blocks; ++i) {
    const int first = static_cast<int>(random() % static_cast<uint64_t>(
                                                      kernels::NumRowBlocks(plan.n))) *
                      kBlock;
    const int rows = std::min(kBlock, plan.n - first);
    SHEAF_ASSIGN_OR_RETURN(
        const LoadedLinear part,
        LoadRows(checkpoint, plan, {.first_row = first, .num_rows = rows}, scratch));
    float slow[kBlock];
    kernels::ref::RunLinear(part.view(), activations, slow, rows);
    for (int row = 0; row < rows; ++row) {
      const float got = fast[static_cast<size_t>(first + row)];
      if (std::memcmp(&got, &slow[row], sizeof(got)) == 0) continue;
      return absl::InternalError(absl::StrFormat(
          "%s: tensor %s: row %d: the scalar kernels give %.9g, the fast ones %.9g",
          plan.codes->file, plan.codes->name, first + row, slow[row], got));
    }
    compared += rows;
  }
  return compared;
}

}  // namespace

void CompareWithReference(const Checkpoint& checkpoint, const ModelConfig& config,
                          const ReferenceOptions& options, ThreadPool& pool, VerifyReport& report) {
  const TensorRoles roles(checkpoint, &config);
  const auto& linears = roles.linears();
  std::vector<absl::StatusOr<int>> results(linears.size(), 0);
  pool.ParallelFor(static_cast<int64_t>(linears.size()), [&](int64_t item, int) {
    const auto at = static_cast<size_t>(item);
    results[at] = Compare(checkpoint, *linears[at], options);
  });
  ReferenceReport& reference = report.reference.emplace();
  reference.linears = linears.size();
  for (const absl::StatusOr<int>& result : results) {
    if (result.ok()) {
      reference.rows += static_cast<uint64_t>(*result);
      continue;
    }
    if (absl::IsInternal(result.status())) ++reference.different;
    report.AddFault(std::string(result.status().message()));
  }
}

}  // namespace sheaf
