#pragma once
// SimulatedDisk: reads experts one after another at a rate, now and then with an error.

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "base/clock.h"
#include "tests/simulation/process.h"
#include "tests/simulation/random.h"

namespace sheaf::simulation {

struct DiskState {
  double bytes_per_second = 200e6;
  double error_chance = 0;
  double slow = 1;
};

class SimulatedDisk {
 public:
  SimulatedDisk(EventQueue& queue, Process& process, Random random)
      : queue_(queue), process_(process), random_(random) {}

  DiskState state;

  void Read(uint64_t bytes, std::function<void(absl::Status)> done) {
    const auto takes = std::chrono::duration_cast<Duration>(std::chrono::duration<double>(
        static_cast<double>(bytes) / state.bytes_per_second * state.slow));
    free_at_ = std::max(free_at_, queue_.now()) + takes;
    absl::Status status;
    if (random_.Chance(state.error_chance)) status = absl::DataLossError("a sector cannot be read");
    process_.At(free_at_, [status, done = std::move(done)] { done(status); });
  }

 private:
  EventQueue& queue_;
  Process& process_;
  Random random_;
  TimePoint free_at_;
};

}  // namespace sheaf::simulation
