// Who holds what, as announced; and how many experts have how many holders.

#include "exchange/layer/expert_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "tests/exchange/test_seed.h"

namespace sheaf {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::vector<WorkerId> Holders(const ExpertTable& table, int layer, int expert) {
  const auto span = table.HoldersOf(LayerId(layer), ExpertId(expert));
  return {span.begin(), span.end()};
}

TEST(ExpertTable, FollowsAnnouncements) {
  ExpertTable table(3, 1, 4);  // layers 1 and 2
  EXPECT_EQ(table.coverage(), (ExpertTable::Coverage{8, 0, 0, 0}));
  Holdings first(3, 4), second(3, 4);
  for (int expert = 0; expert < 4; ++expert) {
    first.Add(LayerId(1), ExpertId(expert));
    second.Add(LayerId(2), ExpertId(expert));
  }
  second.Add(LayerId(1), ExpertId(2));
  table.SetHoldings(WorkerId(7), first);
  EXPECT_FALSE(table.complete());
  EXPECT_THAT(table.Orphans(2), ElementsAre(LayerExpert{LayerId(2), ExpertId(0)},
                                            LayerExpert{LayerId(2), ExpertId(1)}));
  const uint64_t before = table.version();
  table.SetHoldings(WorkerId(3), second);
  EXPECT_GT(table.version(), before);
  EXPECT_TRUE(table.complete());
  EXPECT_THAT(table.Orphans(2), IsEmpty());
  EXPECT_THAT(Holders(table, 1, 2), ElementsAre(WorkerId(3), WorkerId(7)));
  EXPECT_TRUE(table.Holds(WorkerId(3), LayerId(1), ExpertId(2)));
  EXPECT_FALSE(table.Holds(WorkerId(3), LayerId(1), ExpertId(1)));
  EXPECT_EQ(table.coverage(), (ExpertTable::Coverage{0, 7, 1, 0}));

  table.Remove(WorkerId(7));
  EXPECT_THAT(Holders(table, 1, 2), ElementsAre(WorkerId(3)));
  EXPECT_EQ(table.coverage(), (ExpertTable::Coverage{3, 5, 0, 0}));
  table.Remove(WorkerId(7));
  EXPECT_EQ(table.coverage(), (ExpertTable::Coverage{3, 5, 0, 0}));
}

TEST(ExpertTable, OutsideTheModelNobodyHoldsAnything) {
  ExpertTable table(3, 1, 4);
  EXPECT_THAT(Holders(table, 0, 0), IsEmpty());  // a dense layer
  EXPECT_THAT(Holders(table, 3, 0), IsEmpty());
  EXPECT_THAT(Holders(table, 1, 4), IsEmpty());
  EXPECT_THAT(Holders(table, -1, -1), IsEmpty());
}

TEST(ExpertTable, AgreesWithARecountAfterManyChanges) {
  const uint64_t seed = TestSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  ExpertTable table(4, 2, 5);
  std::map<WorkerId, Holdings> wanted;
  for (int change = 0; change < 200; ++change) {
    const WorkerId worker(static_cast<int32_t>(random() % 6));
    if (random() % 4 == 0) {
      table.Remove(worker);
      wanted.erase(worker);
    } else {
      Holdings holdings(4, 5);
      for (int layer = 0; layer < 4; ++layer) {
        for (int expert = 0; expert < 5; ++expert) {
          if (random() % 2) holdings.Add(LayerId(layer), ExpertId(expert));
        }
      }
      table.SetHoldings(worker, holdings);
      wanted[worker] = holdings;
    }
    ExpertTable::Coverage coverage{};
    for (int layer = 2; layer < 4; ++layer) {
      for (int expert = 0; expert < 5; ++expert) {
        std::vector<WorkerId> holders;
        for (const auto& [id, holdings] : wanted) {
          if (holdings.Has(LayerId(layer), ExpertId(expert))) holders.push_back(id);
        }
        ASSERT_EQ(Holders(table, layer, expert), holders);
        ++coverage[std::min<size_t>(holders.size(), 3)];
      }
    }
    ASSERT_EQ(table.coverage(), coverage);
  }
}

}  // namespace
}  // namespace sheaf
