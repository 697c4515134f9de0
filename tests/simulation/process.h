#pragma once
// Process: one simulated process, whose events (timers, messages) end with its life and wait while
// it is frozen, in their order: what SIGKILL and SIGSTOP do to a real one.

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <utility>

#include "base/clock.h"
#include "tests/simulation/event_queue.h"

namespace sheaf::simulation {

class Process {
 public:
  enum class Event { kTimer, kMessage };

  Process(EventQueue& queue, int host, std::string name)
      : queue_(queue), host_(host), name_(std::move(name)) {}
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  int host() const { return host_; }
  const std::string& name() const { return name_; }
  bool alive() const { return alive_; }
  bool frozen() const { return frozen_; }
  // Counts up; a restarted process has another one.
  uint64_t life() const { return life_; }
  // Messages that have come and were not looked at.
  size_t unread() const { return unread_; }
  // It (or the path to it) was harmed last then.
  TimePoint touched_at() const { return touched_at_; }
  void Touch() { touched_at_ = queue_.now(); }

  void Start() {
    ++life_;
    alive_ = true;
    frozen_ = false;
    Touch();
  }
  void Kill() {
    alive_ = frozen_ = false;
    backlog_.clear();
    unread_ = 0;
    Touch();
  }
  void Freeze() {
    frozen_ = true;
    Touch();
  }
  void Thaw() {
    if (!frozen_) return;
    frozen_ = false;
    Touch();
    Drain();
  }

  void At(TimePoint when, std::function<void()> run, Event event = Event::kTimer) {
    queue_.At(when, [this, life = life_, event, run = std::move(run)] {
      if (!alive_ || life != life_) return;
      if (!frozen_ && backlog_.empty()) return run();
      backlog_.push_back({event, run});
      unread_ += event == Event::kMessage ? 1 : 0;
    });
  }
  void After(Duration delay, std::function<void()> run) {
    At(queue_.now() + delay, std::move(run));
  }

 private:
  void Drain() {
    queue_.At(queue_.now(), [this, life = life_] {
      if (!alive_ || life != life_ || frozen_ || backlog_.empty()) return;
      auto [event, run] = std::move(backlog_.front());
      backlog_.pop_front();
      unread_ -= event == Event::kMessage ? 1 : 0;
      run();
      if (alive_ && life == life_ && !backlog_.empty()) Drain();
    });
  }

  EventQueue& queue_;
  const int host_;
  const std::string name_;
  bool alive_ = false;
  bool frozen_ = false;
  uint64_t life_ = 0;
  size_t unread_ = 0;
  TimePoint touched_at_;
  std::deque<std::pair<Event, std::function<void()>>> backlog_;
};

}  // namespace sheaf::simulation
