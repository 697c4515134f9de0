#include "router/schedule/plan/step_cost.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace sheaf {
namespace {

// A running mean over about so many steps of a cell.
constexpr double kCellMemory = 16;
// A cell that was not seen for so many steps weighs half.
constexpr double kHalfLifeSteps = 256;
constexpr double kLeastWeight = 1.0 / 1024;
// A cell seen less often weighs less, and may surprise more.
constexpr int kYoungCell = 4;
// Fitting takes 4 us: known cells are fitted again after steps of this time, that is 0.2 % of it.
constexpr double kFitEveryMs = 2;
// Of a column whose length is 1: how much a coefficient is held back where the cells leave it open.
constexpr std::array<double, 5> kRidge = {1e-3, 1e-3, 1e-5, 1e-4, 1e-4};

double Median(const double* values, int count) {
  std::vector<double> sorted(values, values + count);
  std::nth_element(sorted.begin(), sorted.begin() + count / 2, sorted.end());
  return sorted[count / 2];
}

// Of the equations gram * x = right, those whose bit is set in `active`; the other unknowns are 0.
// False: singular.
template <size_t N>
bool Solve(const std::array<std::array<double, N>, N>& gram, const std::array<double, N>& right,
           unsigned active, std::array<double, N>& solution) {
  std::array<std::array<double, N + 1>, N> rows{};
  std::array<size_t, N> index{};
  size_t n = 0;
  for (size_t i = 0; i < N; ++i) {
    if (active >> i & 1) index[n++] = i;
  }
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < n; ++j) rows[i][j] = gram[index[i]][index[j]];
    rows[i][n] = right[index[i]];
  }
  // Positive definite by its ridge: no pivoting.
  for (size_t k = 0; k < n; ++k) {
    if (!(rows[k][k] > 0)) return false;
    for (size_t i = k + 1; i < n; ++i) {
      const double factor = rows[i][k] / rows[k][k];
      for (size_t j = k; j <= n; ++j) rows[i][j] -= factor * rows[k][j];
    }
  }
  solution.fill(0);
  for (size_t k = n; k-- > 0;) {
    double value = rows[k][n];
    for (size_t j = k + 1; j < n; ++j) value -= rows[k][j] * solution[index[j]];
    solution[index[k]] = value / rows[k][k];
  }
  return true;
}

}  // namespace

void StepShape::Add(bool decode, int64_t first, int num_rows) {
  (decode ? decode_rows : prefill_rows) += num_rows;
  attended += num_rows * first + int64_t{num_rows} * (num_rows + 1) / 2;
}

StepCostModel::Features StepCostModel::FeaturesOf(const StepShape& shape) const {
  double touched = 1;
  if (spread_.num_experts > 0) {
    const double share = static_cast<double>(spread_.experts_per_token) / spread_.num_experts;
    touched = 1 - std::pow(1 - std::min(1.0, share), shape.rows());
  }
  return {1, touched, static_cast<double>(shape.rows()), static_cast<double>(shape.attended),
          static_cast<double>(shape.logit_rows)};
}

double StepCostModel::Fitted(const Features& features) const {
  double ms = 0;
  for (int i = 0; i < kFeatures; ++i) ms += coefficients_[i] * features[i];
  return ms;
}

double StepCostModel::PredictMs(const StepShape& shape) const {
  return level_ * Fitted(FeaturesOf(shape));
}

int StepCostModel::RowClass(int rows) {
  return std::min(static_cast<int>(2 * std::log2(std::max(1, rows))), kRowClasses - 1);
}

int StepCostModel::CellOf(const StepShape& shape) {
  const int rows = std::max(1, shape.rows());
  const auto context = static_cast<uint64_t>(std::max<int64_t>(0, shape.attended) / rows);
  const int context_class = std::bit_width(context) / 2;
  return RowClass(rows) * kContextClasses + std::min(context_class, kContextClasses - 1);
}

void StepCostModel::Observe(const StepShape& shape, Duration duration) {
  const double ms = std::chrono::duration<double, std::milli>(duration).count();
  if (shape.rows() < 1 || !(ms > 0)) return;
  const Features features = FeaturesOf(shape);
  double believed = ms;
  const double fitted = Fitted(features);
  const int index = CellOf(shape);
  Cell& cell = cells_[index];
  if (fitted > 0) {
    ratios_[num_ratios_ % kRatios] = ms / fitted;
    ++num_ratios_;
    level_ = Median(ratios_.data(), static_cast<int>(std::min<int64_t>(num_ratios_, kRatios)));
    if (num_ratios_ >= kRatios) {
      const double surprise = cell.seen < kYoungCell ? kSurpriseOfYoung : kLargestSurprise;
      believed = std::clamp(ms, level_ * fitted / surprise, level_ * fitted * surprise);
    }
  }
  ++steps_;
  if (cell.seen == 0) used_.insert(std::upper_bound(used_.begin(), used_.end(), index), index);
  ++cell.seen;
  cell.last_seen = steps_;
  const double weight = std::max(1.0 / static_cast<double>(cell.seen), 1 / kCellMemory);
  for (int i = 0; i < kFeatures; ++i) {
    cell.features[i] += weight * (features[i] - cell.features[i]);
  }
  cell.ms += weight * (believed - cell.ms);
  int& most_rows = most_rows_[RowClass(shape.rows())];
  most_rows = std::max(most_rows, shape.rows());
  most_attended_ = std::max(most_attended_, shape.attended);
  unfitted_ms_ += ms;
  if (cell.seen <= kCellMemory || unfitted_ms_ >= kFitEveryMs) Fit();
}

void StepCostModel::Fit() {
  unfitted_ms_ = 0;
  std::array<Features, kFeatures> gram{};
  Features right{};
  for (const int index : used_) {
    const Cell& cell = cells_[index];
    const double age = static_cast<double>(steps_ - cell.last_seen);
    const double weight = std::max(kLeastWeight, std::exp2(-age / kHalfLifeSteps)) *
                          std::min(1.0, static_cast<double>(cell.seen) / kYoungCell);
    const double by_ms = 1 / cell.ms;  // errors are relative
    for (int i = 0; i < kFeatures; ++i) {
      right[i] += weight * cell.features[i] * by_ms;
      for (int j = 0; j < kFeatures; ++j) {
        gram[i][j] += weight * cell.features[i] * cell.features[j] * by_ms * by_ms;
      }
    }
  }
  Features length{};
  for (int i = 0; i < kFeatures; ++i) length[i] = std::sqrt(gram[i][i]);
  unsigned possible = 0;
  for (int i = 0; i < kFeatures; ++i) {
    if (!(length[i] > 0)) continue;
    possible |= 1u << i;
    right[i] /= length[i];
    for (int j = 0; j < kFeatures; ++j) {
      if (length[j] > 0) gram[i][j] /= length[i] * length[j];
    }
    gram[i][i] = 1 + kRidge[i];
  }
  // Every set of coefficients that may be positive: the best of those that are.
  double best = std::numeric_limits<double>::infinity();
  Features solution{};
  for (unsigned active = 1; active < 1u << kFeatures; ++active) {
    if ((active & ~possible) != 0 || !Solve(gram, right, active, solution)) continue;
    if (std::any_of(solution.begin(), solution.end(), [](double x) { return x < 0; })) continue;
    // The squared error without its constant part; at the solution of the active equations.
    double error = 0;
    for (int i = 0; i < kFeatures; ++i) error -= solution[i] * right[i];
    if (error >= best) continue;
    best = error;
    for (int i = 0; i < kFeatures; ++i) {
      coefficients_[i] = length[i] > 0 ? solution[i] / length[i] : 0;
    }
  }
}

int StepCostModel::MostRowsBeside(int others) const {
  int bound = std::max(kFirstRows, 2 * others);
  for (const int seen : most_rows_) {  // ascending
    if (seen <= bound) bound = std::max(bound, 2 * seen);
  }
  return bound;
}

int StepCostModel::LargestPrefill(const StepShape& others, int64_t first, int most, int length_left,
                                  double target_ms) const {
  const int rows_bound = MostRowsBeside(others.rows());
  const int64_t attended_bound = std::max(kFirstAttended, 2 * most_attended_);
  const auto fits = [&](int rows) {
    StepShape shape = others;
    shape.Add(/*decode=*/false, first, rows);
    if (rows == length_left) ++shape.logit_rows;
    return shape.rows() <= rows_bound && shape.attended <= attended_bound &&
           PredictMs(shape) <= target_ms;
  };
  int low = 0, high = most;
  while (low < high) {
    const int middle = low + (high - low + 1) / 2;
    if (fits(middle)) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

}  // namespace sheaf
