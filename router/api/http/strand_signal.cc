#include "router/api/http/strand_signal.h"

// clang-format off
#include <boost/asio/async_result.hpp>
#include <boost/asio/use_awaitable.hpp>
// clang-format on

namespace sheaf {

namespace net = boost::asio;

StrandSignal::~StrandSignal() {
  if (const auto sleeper = sleeper_.lock()) sleeper->owner = nullptr;
}

void StrandSignal::Raise() {
  raised_ = true;
  std::function<void()> resume;
  if (const auto sleeper = sleeper_.lock()) resume = std::exchange(sleeper->resume, nullptr);
  if (resume) resume();
}

net::awaitable<bool> StrandSignal::Wait(std::chrono::milliseconds limit) {
  if (!raised_) {
    // Nothing here may hold the sleeper, which will hold this coroutine.
    const auto sleep = [this, limit](auto handler) {
      const auto until = std::chrono::steady_clock::now() + limit;
      auto sleeper = sleeper_.lock();
      const bool armed = sleeper != nullptr;
      if (!armed) sleeper_ = sleeper = std::make_shared<Sleeper>(Sleeper{this, nullptr, until});
      sleeper->until = until;
      sleeper->resume = [held = std::make_shared<decltype(handler)>(std::move(handler))] {
        std::move (*held)();
      };
      if (!armed) Arm(std::move(sleeper));
    };
    co_await net::async_initiate<decltype(net::use_awaitable), void()>(sleep, net::use_awaitable);
  }
  co_return std::exchange(raised_, false);
}

void StrandSignal::Arm(std::shared_ptr<Sleeper> sleeper) {
  timer_.expires_at(sleeper->until);
  timer_.async_wait([sleeper = std::move(sleeper)](boost::system::error_code ec) mutable {
    if (ec || sleeper->owner == nullptr || !sleeper->resume) return;
    if (std::chrono::steady_clock::now() < sleeper->until) {
      StrandSignal& owner = *sleeper->owner;
      return owner.Arm(std::move(sleeper));
    }
    const auto resume = std::exchange(sleeper->resume, nullptr);
    sleeper.reset();
    resume();
  });
}

}  // namespace sheaf
