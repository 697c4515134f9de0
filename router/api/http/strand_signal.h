#pragma once
// StrandSignal: lets one coroutine of a strand wait until something happens there, or for a while.
// A timer that every signal cancels would cost a stream two turns of the loop a token; here the
// signal resumes the coroutine itself, and the timer runs on from one wait to the next.
//
// Threads    the strand's alone. Raise resumes the coroutine from within.
// Ownership  a coroutine that waits is held by the timer in the loop, so a loop that is destroyed
//            frees it.

#include <chrono>
#include <functional>
#include <memory>

// clang-format off
#include <utility>  // before Asio: its 1.74 uses std::exchange without it
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
// clang-format on

namespace sheaf {

class StrandSignal {
 public:
  explicit StrandSignal(const boost::asio::any_io_executor& strand) : timer_(strand) {}
  ~StrandSignal();
  StrandSignal(const StrandSignal&) = delete;
  StrandSignal& operator=(const StrandSignal&) = delete;

  void Raise();
  // Whether it was raised since the last wait; at most for `limit`. One coroutine at a time.
  boost::asio::awaitable<bool> Wait(std::chrono::milliseconds limit);

 private:
  struct Sleeper {
    StrandSignal* owner;           // null: gone
    std::function<void()> resume;  // empty: nobody waits
    std::chrono::steady_clock::time_point until;
  };
  void Arm(std::shared_ptr<Sleeper> sleeper);

  boost::asio::steady_timer timer_;
  std::weak_ptr<Sleeper> sleeper_;  // the timer's, while it runs
  bool raised_ = false;
};

}  // namespace sheaf
