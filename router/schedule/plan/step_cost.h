#pragma once
// StepCostModel: how long a step takes, learned from the steps that ran.
//
//   ms = level * (c0 + c1 * experts touched + c2 * rows + c3 * attended + c4 * rows of logits)
//
// Experts touched is the share 1 - (1 - k/E)^rows of a layer's weights that must be read; attended
// is the sum over all rows of the positions that they look at. No coefficient is negative, so more
// work never predicts less time.
//
// Learning   Steps of like shapes (rows and mean context, by size class) share a cell: running
//            means of what they were and took. The coefficients are the non-negative weighted least
//            squares over the cells, of relative errors; what the cells cannot tell apart goes to
//            the rows, because a chunk that proves cheaper than feared costs nothing. Cells not
//            seen for long weigh less, but are not forgotten: hours of decoding do not unlearn what
//            a prompt costs.
// Level      the median of the last kRatios steps' (real / fitted): a machine that becomes slower
//            is followed within a few steps, and a step that stood still for a while (the machine
//            was elsewhere) moves nothing, because one out of kRatios is no median, and its cell is
//            told at most kLargestSurprise times what was expected (of a cell seen for the first
//            times, kSurpriseOfYoung).
// Unknown    LargestPrefill does not go beyond twice the attended positions of any step seen, nor
//            twice the rows of any that it can reach so from `others` (nor, before that, beyond
//            kFirstAttended and kFirstRows): a new machine is tried with chunks that double, and a
//            prompt of 2,048 rows alone does not open the way to 100 beside a few decodes.
//
// Threads    one. Pure but for its own state, which is bounded (kCells cells).
// Cost       Observe: 1 us, and 4 us for every 2 ms of steps or young cell. PredictMs: 30
//            multiply-adds. LargestPrefill: log2(most) of those.

#include <array>
#include <cstdint>
#include <vector>

#include "base/clock.h"

namespace sheaf {

// What a step runs.
struct StepShape {
  int decode_rows = 0;   // the newest tokens of sequences past their prefill
  int prefill_rows = 0;  // all others
  int64_t attended = 0;  // sum over rows of position + 1
  int logit_rows = 0;

  int rows() const { return decode_rows + prefill_rows; }
  // Adds `num_rows` rows of one sequence from position `first` on.
  void Add(bool decode, int64_t first, int num_rows);
};

// Of a layer with routed experts; 0 experts: none, every weight is read by every step.
struct ExpertSpread {
  int num_experts = 0;
  int experts_per_token = 0;
};

class StepCostModel {
 public:
  static constexpr int kRatios = 7;
  static constexpr double kLargestSurprise = 1.5;
  static constexpr double kSurpriseOfYoung = 4;
  static constexpr int kFirstRows = 16;
  static constexpr int64_t kFirstAttended = 65536;

  explicit StepCostModel(const ExpertSpread& spread) : spread_(spread) {}

  // A step that ran to its end.
  void Observe(const StepShape& shape, Duration duration);

  // 0: nothing is known yet.
  double PredictMs(const StepShape& shape) const;

  // The most rows, at most `most`, of a prompt from position `first` on that can join `others` so
  // that the step is predicted to take at most target_ms and is not unlike all that is known. A
  // prompt that ends with them (most == its length left) has a row of logits.
  int LargestPrefill(const StepShape& others, int64_t first, int most, int length_left,
                     double target_ms) const;

 private:
  static constexpr int kFeatures = 5;
  static constexpr int kRowClasses = 44;      // half octaves of rows
  static constexpr int kContextClasses = 12;  // double octaves of attended / rows
  static constexpr int kCells = kRowClasses * kContextClasses;
  using Features = std::array<double, kFeatures>;

  struct Cell {
    int64_t seen = 0;       // steps
    int64_t last_seen = 0;  // in steps of the model
    Features features{};    // running means
    double ms = 0;
  };

  Features FeaturesOf(const StepShape& shape) const;
  double Fitted(const Features& features) const;
  static int RowClass(int rows);
  static int CellOf(const StepShape& shape);
  int MostRowsBeside(int others) const;
  void Fit();

  const ExpertSpread spread_;
  std::vector<Cell> cells_ = std::vector<Cell>(kCells);
  std::vector<int> used_;  // cells seen, ascending
  int64_t steps_ = 0;
  double unfitted_ms_ = 0;  // of steps since the coefficients were made
  Features coefficients_{};
  std::array<double, kRatios> ratios_{};  // a ring; the first min(steps, kRatios) count
  int64_t num_ratios_ = 0;
  double level_ = 1;
  std::array<int, kRowClasses> most_rows_{};  // seen of each class
  int64_t most_attended_ = 0;
};

}  // namespace sheaf
