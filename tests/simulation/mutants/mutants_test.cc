// Every mutant of the protocol is caught within a bounded number of seeds.

#include <gtest/gtest.h>

#include <cstdio>

#include "spdlog/spdlog.h"
#include "tests/simulation/mutants/mutants.h"
#include "tests/simulation/scenario.h"

namespace sheaf::simulation {
namespace {

constexpr uint64_t kSeeds = 600;

class MutantTest : public testing::TestWithParam<Mutant> {};

TEST_P(MutantTest, IsCaught) {
  spdlog::set_level(spdlog::level::off);
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    const ScenarioResult result = RunScenario({seed, false, GetParam()});
    if (result.ok()) continue;
    std::printf("%s: seed %llu: %s: %s\n", NameOf(GetParam()),
                static_cast<unsigned long long>(seed), result.violations[0].rule.c_str(),
                result.violations[0].text.substr(0, 200).c_str());
    // The mutant is what was caught: the real protocol does well with this seed.
    EXPECT_TRUE(RunScenario({seed}).ok()) << "seed " << seed;
    return;
  }
  FAIL() << NameOf(GetParam()) << " does well in " << kSeeds << " seeds";
}

INSTANTIATE_TEST_SUITE_P(All, MutantTest, testing::ValuesIn(kMutants), [](const auto& test) {
  std::string name = NameOf(test.param);
  return name;
});

}  // namespace
}  // namespace sheaf::simulation
