#include "exchange/layer/answer_times.h"

#include <algorithm>
#include <cmath>

namespace sheaf {
namespace {

constexpr double kLargestStep = 8;   // a time counts as at most so many means
constexpr double kSmallestUnit = 1e-9;  // seconds; keeps ratios finite
constexpr double kLateBesideOthers = 8;   // means of the other workers
constexpr double kReturnMemory = 0.25;  // weight of a time below half the mean

double Seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }
Duration FromSeconds(double seconds) {
  // Far beyond any deadline, and far from overflow.
  return std::chrono::duration_cast<Duration>(
      std::chrono::duration<double>(std::min(seconds, 1e6)));
}

}  // namespace

const AnswerTimes::Times* AnswerTimes::Find(WorkerId worker) const {
  const auto index = static_cast<size_t>(worker.value());
  if (worker.value() < 0 || index >= workers_.size() || !workers_[index].known) return nullptr;
  return &workers_[index];
}

AnswerTimes::Times& AnswerTimes::At(WorkerId worker) {
  const auto index = static_cast<size_t>(std::max(0, worker.value()));
  if (index >= workers_.size()) workers_.resize(index + 1);
  return workers_[index];
}

double AnswerTimes::PerUnit(double work, Duration took) const {
  return std::max(kSmallestUnit, Seconds(took - options_.fixed_cost) / std::max(work, 1e-3));
}

double AnswerTimes::MeanOfKnown() const {
  double sum = 0;
  int known = 0;
  for (const Times& times : workers_) {
    if (!times.known) continue;
    sum += times.mean;
    ++known;
  }
  return known == 0 ? 0 : sum / known;
}

void AnswerTimes::Observe(WorkerId worker, double work, Duration took) {
  Times& times = At(worker);
  double sample = PerUnit(work, took);
  if (!times.known) {
    times = {true, sample, sample / 4};
    return;
  }
  sample = std::min(sample, kLargestStep * times.mean);
  const double weight =
      sample < times.mean / 2 ? std::max(kReturnMemory, options_.memory) : options_.memory;
  times.deviation += weight * (std::abs(sample - times.mean) - times.deviation);
  times.mean += weight * (sample - times.mean);
}

void AnswerTimes::ObserveSilence(WorkerId worker, double work, Duration so_far) {
  Times& times = At(worker);
  const double sample = PerUnit(work, so_far);
  if (!times.known) {
    times = {true, sample, sample / 4};
    return;
  }
  times.mean = std::max(times.mean, std::min(sample, kLargestStep * times.mean));
}

void AnswerTimes::Forget(WorkerId worker) {
  if (Find(worker) != nullptr) At(worker) = {};
}

double AnswerTimes::SecondsPerUnit(WorkerId worker) const {
  if (const Times* times = Find(worker)) return times->mean;
  const double mean = MeanOfKnown();
  return mean > 0 ? mean : 1;
}

Duration AnswerTimes::Expected(WorkerId worker, double work) const {
  return options_.fixed_cost + FromSeconds(SecondsPerUnit(worker) * work);
}

double AnswerTimes::MeanOfOthers(WorkerId worker) const {
  double sum = 0;
  int known = 0;
  for (size_t i = 0; i < workers_.size(); ++i) {
    if (!workers_[i].known || i == size_t(worker.value())) continue;
    sum += workers_[i].mean;
    ++known;
  }
  return known == 0 ? 0 : sum / known;
}

Duration AnswerTimes::LateAfter(WorkerId worker, double work) const {
  double unit;
  if (const Times* times = Find(worker)) {
    unit = std::max(times->mean + 4 * times->deviation, 2 * times->mean);
    // What is usual for a sick worker is late all the same.
    if (const double others = MeanOfOthers(worker); others > 0) {
      unit = std::min(unit, kLateBesideOthers * others);
    }
  } else {
    unit = 4 * MeanOfKnown();
    if (unit == 0) return std::max(options_.late_floor, options_.late_unknown);
  }
  return std::max(options_.late_floor, options_.fixed_cost + FromSeconds(unit * work));
}

}  // namespace sheaf
