#include "coordinator/quarantine.h"

#include <algorithm>
#include <utility>

namespace sheaf {

bool Quarantine::LinkFailed(int times, TimePoint now) {
  if (inside()) return false;
  for (int i = 0; i < std::min(times, options_.max_failures); ++i) failures_.push_back(now);
  while (!failures_.empty() && now - failures_.front() > options_.window) failures_.pop_front();
  // What is older than enough failures says nothing more.
  while (failures_.size() > static_cast<size_t>(options_.max_failures)) failures_.pop_front();
  return failures_.size() >= static_cast<size_t>(options_.max_failures);
}

bool Quarantine::Reached(bool reached, TimePoint now) {
  if (reached || inside()) {
    unreached_since_.reset();
    return false;
  }
  if (!unreached_since_.has_value()) unreached_since_ = now;
  return now - *unreached_since_ >= options_.unreachable_after;
}

bool Quarantine::AnsweredWrong(TimePoint now) {
  if (inside()) return false;
  const bool again = last_wrong_.has_value() && now - *last_wrong_ <= options_.wrong_window;
  last_wrong_ = now;
  return again;
}

void Quarantine::Enter(std::string reason, bool wrong, TimePoint now) {
  const bool was_good = stay_ == Duration(0) || now - released_ > options_.max_stay;
  stay_ = was_good ? options_.first_stay : std::min(stay_ * 2, options_.max_stay);
  until_ = now + stay_;
  wrong_ = wrong;
  reason_ = std::move(reason);
  failures_.clear();
  unreached_since_.reset();
  last_wrong_.reset();
}

bool Quarantine::Release(TimePoint now) {
  if (!until_.has_value() || now < *until_) return false;
  until_.reset();
  released_ = now;
  reason_.clear();
  return true;
}

}  // namespace sheaf
