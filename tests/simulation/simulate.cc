// simulate: runs simulations of a pool and says what went wrong.
//
//   simulate --seed 17 --trace          one seed, told event by event
//   simulate --runs 2000 --jobs 2       fresh seeds, the first of them printed
//   simulate --mutant never_late ...    with one rule of the protocol broken
//
// Exit status 1 when a seed fails; the seeds are printed.

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "spdlog/spdlog.h"
#include "tests/simulation/scenario.h"

namespace {

using sheaf::simulation::Mutant;
using sheaf::simulation::RunScenario;
using sheaf::simulation::ScenarioOptions;
using sheaf::simulation::ScenarioResult;

struct Totals {
  std::mutex mutex;
  int64_t runs = 0;
  int64_t failed = 0;
  int64_t steps = 0;
  int64_t given_up = 0;
  int64_t asked_again = 0;
  uint64_t events = 0;
  double simulated_seconds = 0;
  double longest_calm = 0;
  uint64_t longest_calm_seed = 0;
};

void Tell(const ScenarioResult& result) {
  std::printf("seed %llu: %s\n  trace %016llx, %llu events, %.1f s, %lld steps, %lld given up\n",
              static_cast<unsigned long long>(result.seed), result.shape.c_str(),
              static_cast<unsigned long long>(result.trace_hash),
              static_cast<unsigned long long>(result.events), result.simulated_seconds,
              static_cast<long long>(result.steps), static_cast<long long>(result.steps_given_up));
  for (const auto& violation : result.violations)
    std::printf("  %s: %s\n", violation.rule.c_str(), violation.text.c_str());
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  spdlog::set_level(spdlog::level::off);
  uint64_t seed = (uint64_t{std::random_device{}()} << 20) ^ std::random_device{}();
  int64_t runs = 1;
  int jobs = 1;
  bool trace = false;
  std::chrono::milliseconds late_bound(600);
  Mutant mutant = Mutant::kNone;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    const auto value = [&] {
      if (i + 1 < argc) return argv[++i];
      std::fprintf(stderr, "%s wants a value\n", flag.c_str());
      std::exit(2);
    };
    if (flag == "--seed") {
      seed = std::strtoull(value(), nullptr, 10);
    } else if (flag == "--runs") {
      runs = std::strtoll(value(), nullptr, 10);
    } else if (flag == "--jobs") {
      jobs = static_cast<int>(std::strtol(value(), nullptr, 10));
    } else if (flag == "--late-bound-ms") {
      late_bound = std::chrono::milliseconds(std::strtol(value(), nullptr, 10));
    } else if (flag == "--trace") {
      trace = true;
    } else if (flag == "--mutant") {
      const std::string name = value();
      for (const Mutant one : sheaf::simulation::kMutants) {
        if (name == sheaf::simulation::NameOf(one)) mutant = one;
      }
    } else {
      std::fprintf(stderr, "simulate [--seed N] [--runs K] [--jobs J] [--trace] "
                           "[--mutant NAME] [--late-bound-ms T]\n");
      return 2;
    }
  }
  std::printf("seeds %llu .. %llu\n", static_cast<unsigned long long>(seed),
              static_cast<unsigned long long>(seed + static_cast<uint64_t>(runs) - 1));
  std::fflush(stdout);

  Totals totals;
  std::atomic<int64_t> next{0};
  const auto begin = std::chrono::steady_clock::now();
  const auto work = [&] {
    for (int64_t n = next++; n < runs; n = next++) {
      const ScenarioResult result =
          RunScenario({seed + static_cast<uint64_t>(n), trace, mutant, late_bound});
      const std::lock_guard lock(totals.mutex);
      ++totals.runs;
      totals.failed += result.ok() ? 0 : 1;
      totals.steps += result.steps;
      totals.given_up += result.steps_given_up;
      totals.asked_again += result.asked_again;
      totals.events += result.events;
      totals.simulated_seconds += result.simulated_seconds;
      if (result.calm_seconds > totals.longest_calm) {
        totals.longest_calm = result.calm_seconds;
        totals.longest_calm_seed = result.seed;
      }
      if (!result.ok() || runs == 1) Tell(result);
    }
  };
  std::vector<std::thread> threads;
  for (int i = 1; i < jobs; ++i) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  std::printf("%lld runs, %lld failed; %.0f simulated s in %.1f s, %lld steps, %lld given up, "
              "%lld pairs asked again, %.1f M events\n",
              static_cast<long long>(totals.runs), static_cast<long long>(totals.failed),
              totals.simulated_seconds, seconds, static_cast<long long>(totals.steps),
              static_cast<long long>(totals.given_up), static_cast<long long>(totals.asked_again),
              static_cast<double>(totals.events) * 1e-6);
  std::printf("well again after faults within %.1f s (seed %llu)\n", totals.longest_calm,
              static_cast<unsigned long long>(totals.longest_calm_seed));
  return totals.failed == 0 ? 0 : 1;
}
