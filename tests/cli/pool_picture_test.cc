#include "cli/router/pool_picture.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

namespace sheaf {
namespace {

using testing::ElementsAre;

LinkPoolSnapshot OneLink() {
  LinkPoolSnapshot links;
  WorkerLinkStatus& link = links.workers.emplace_back();
  link.worker = WorkerId(2);
  link.name = "pid 9 on b";
  link.live = true;
  link.path = "tcp";
  link.reason = "what broke the one before";
  link.failures = 4;
  links.live_links = 1;
  links.coverage = {1, 5, 0, 0};
  links.holdings_version = 3;
  Holdings holdings(3, 2);
  holdings.Add(LayerId(1), ExpertId(1));
  holdings.Add(LayerId(2), ExpertId(0));
  links.holdings = std::make_shared<const ExpertTable::Announced>(
      ExpertTable::Announced{{WorkerId(2), holdings}});
  return links;
}

TEST(PoolPicture, WorkersOfBothSidesAreJoinedById) {
  v1::PoolStatus status;
  status.set_text("one line\nof a stranger");
  status.set_replicas(2);
  for (const int id : {0, 2}) {
    v1::WorkerStatus& worker = *status.add_workers();
    worker.set_worker_id(id);
    worker.set_state(id == 0 ? v1::WorkerStatus::SPARE : v1::WorkerStatus::READY);
    worker.set_host("h");
    worker.set_pid(10 + id);
  }
  v1::LostWorkerStatus& lost = *status.add_lost();
  lost.set_worker_id(1);
  lost.set_lost_ms_ago(5);
  const PoolPicture picture = PictureOf(OneLink(), PoolPicture::Place::kWorkers, &status);
  EXPECT_TRUE(picture.coordinator_speaks);
  EXPECT_EQ(picture.text, "one line\\nof a stranger");
  EXPECT_THAT(picture.coverage, ElementsAre(1, 5, 0, 0));
  ASSERT_EQ(picture.workers.size(), 2u);
  EXPECT_EQ(picture.workers[0].id, 0);
  EXPECT_FALSE(picture.workers[0].link.has_value());
  EXPECT_EQ(picture.workers[0].member->state, "spare");
  EXPECT_EQ(picture.workers[1].id, 2);
  EXPECT_EQ(picture.workers[1].name, "pid 12 on h");
  EXPECT_EQ(picture.workers[1].link->failures, 4);
  EXPECT_EQ(picture.workers[1].link->reason, "") << "it lives";
  EXPECT_EQ(picture.workers[1].member->state, "ready");
  ASSERT_EQ(picture.lost.size(), 1u);
  EXPECT_EQ(picture.lost[0].ms_ago, 5);
}

TEST(PoolPicture, ACoordinatorThatIsGoneLeavesTheLinks) {
  const PoolPicture picture = PictureOf(OneLink(), PoolPicture::Place::kWorkers, nullptr);
  EXPECT_FALSE(picture.coordinator_speaks);
  ASSERT_EQ(picture.workers.size(), 1u);
  EXPECT_EQ(picture.workers[0].name, "pid 9 on b");
  EXPECT_FALSE(picture.workers[0].member.has_value());
}

TEST(PoolPicture, TheMapLeavesOutLayersWithoutExperts) {
  ModelIdentity model;
  model.num_layers = 3;
  model.first_moe_layer = 1;
  model.num_experts = 2;
  const ExpertMap map = MapOf(model, OneLink(), {1, 2, 3, 4});
  EXPECT_EQ(map.version, 3u);
  EXPECT_EQ(map.first_layer, 1);
  EXPECT_EQ(map.layers, 2);
  ASSERT_EQ(map.holders.size(), 1u);
  EXPECT_EQ(map.holders[0].worker, 2);
  EXPECT_THAT(map.holders[0].held, ElementsAre(false, true, true, false));
  EXPECT_THAT(map.load, ElementsAre(1, 2, 3, 4));
  EXPECT_TRUE(MapOf(model, OneLink(), {1, 2}).load.empty()) << "of another shape";
}

}  // namespace
}  // namespace sheaf
