#pragma once
// ServiceManager: what this process tells the one that started it and asked to be told (systemd,
// Type=notify): ready, stopping, a line of status, and, where a watchdog is set, that there is
// progress. The manager ends a process that is silent for the watchdog's time.
//
// Protocol   datagrams of KEY=VALUE to the socket that NOTIFY_SOCKET names (a path, or @ and an
//            abstract name); WATCHDOG_USEC: microseconds, if WATCHDOG_PID is this process or
//            none.
// Progress   is told four times in the watchdog's time, at most, and never without any.
// Threads    one owner.
// Errors     none: a manager that does not listen is not waited for. Where nobody asked all verbs
//            do nothing.

#include <cstdint>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/unique_fd.h"

namespace sheaf {

struct ServiceManagerAddress {
  std::string socket;   // empty: nobody wants to be told
  Duration watchdog{};  // 0: none

  // Of the environment, which loses it: children have nothing to tell. Before other threads.
  static ServiceManagerAddress Take();
};

class ServiceManager {
 public:
  ServiceManager(const ServiceManagerAddress& address, const Clock& clock);

  void Ready();
  void Stopping();
  void StatusIs(const std::string& line);  // told when it is another

  // Call often (at most an eighth of the watchdog's time apart). `healthy`: nothing that should
  // move stands still.
  void Tick(bool healthy);
  // Healthy once each of these counters has grown since progress was told last.
  void TickRounds(const std::vector<uint64_t>& rounds);

 private:
  void Tell(const std::string& text);
  bool Due() const;
  void TellProgress();

  const Clock& clock_;
  const Duration watchdog_;
  UniqueFd socket_;  // connected; none: nobody wants to be told
  std::string status_;
  TimePoint told_{};
  bool told_any_ = false;
  bool warned_ = false;
  std::vector<uint64_t> rounds_;  // when progress was told last
};

}  // namespace sheaf
