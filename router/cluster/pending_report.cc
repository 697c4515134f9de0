#include "router/cluster/pending_report.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace sheaf {
namespace {

constexpr int kMaxWrongAnswers = 64;
// Orphans are told again while a step waits for them, but not in every turn of its loop.
constexpr Duration kUrgentEvery = std::chrono::milliseconds(50);

bool Same(const v1::RouterReport& a, const v1::RouterReport& b) {
  return std::equal(a.orphans().begin(), a.orphans().end(), b.orphans().begin(), b.orphans().end(),
                    [](const v1::ExpertRange& left, const v1::ExpertRange& right) {
                      return left.layer() == right.layer() && left.begin() == right.begin() &&
                             left.end() == right.end();
                    });
}

}  // namespace

void PendingReport::Add(const v1::RouterReport& report, TimePoint now) {
  if (pending_.pairs_size() != report.pairs_size() && report.pairs_size() > 0) {
    *pending_.mutable_pairs() = report.pairs();
  } else {
    for (int i = 0; i < report.pairs_size(); ++i) {
      const uint64_t sum = uint64_t{pending_.pairs(i)} + report.pairs(i);
      pending_.set_pairs(
          i, static_cast<uint32_t>(std::min<uint64_t>(sum, std::numeric_limits<uint32_t>::max())));
    }
  }
  for (const v1::LinkReport& link : report.links()) {
    v1::LinkReport& known = links_[link.worker_id()];
    const int before = known.instance() == link.instance() ? known.failures() : 0;
    std::string reason = link.reason().empty() && before > 0 ? known.reason() : link.reason();
    known = link;
    known.set_failures(std::min(before + link.failures(), 1 << 20));
    known.set_reason(std::move(reason));
  }
  const bool news = report.orphans_size() > 0 && !Same(pending_, report);
  *pending_.mutable_orphans() = report.orphans();
  for (const v1::WrongAnswer& wrong : report.wrong_answers()) *pending_.add_wrong_answers() = wrong;
  if (pending_.wrong_answers_size() > kMaxWrongAnswers) {
    pending_.mutable_wrong_answers()->DeleteSubrange(
        0, pending_.wrong_answers_size() - kMaxWrongAnswers);
  }
  TimePoint due = std::max(now, last_sent_ + every_);
  if (report.wrong_answers_size() > 0 || news) due = now;
  if (report.orphans_size() > 0) due = std::min(due, std::max(now, last_sent_ + kUrgentEvery));
  due_ = due_.has_value() ? std::min(*due_, due) : due;
}

v1::RouterReport PendingReport::Take(TimePoint now) {
  v1::RouterReport report = std::exchange(pending_, {});
  for (auto& [worker, link] : std::exchange(links_, {})) {
    *report.add_links() = std::move(link);
  }
  // So that the same orphans are no news; an empty list in a later report clears them.
  *pending_.mutable_orphans() = report.orphans();
  due_.reset();
  last_sent_ = now;
  return report;
}

}  // namespace sheaf
