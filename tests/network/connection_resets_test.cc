#include "network/connection_resets.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace sheaf {
namespace {

class ConnectionResetsTest : public testing::Test {
 protected:
  void Reset(const std::string& peer, int times) {
    for (int i = 0; i < times; ++i) resets_.OnReset(peer);
  }

  ManualClock clock_;
  ConnectionResets resets_{clock_};
  std::vector<std::string> dropped_;
  void SetUp() override {
    resets_.SetDrop([this](const std::string& peer) { dropped_.push_back(peer); });
  }
};

TEST_F(ConnectionResetsTest, ABurstIsFineAndOneMoreIsNot) {
  Reset("a", 1000);
  Reset("b", 1000);
  EXPECT_THAT(dropped_, testing::IsEmpty());
  Reset("a", 1);
  EXPECT_THAT(dropped_, testing::ElementsAre("a"));
}

TEST_F(ConnectionResetsTest, AHundredASecondMayGoOnForEver) {
  for (int second = 0; second < 100; ++second) {
    Reset("a", 100);
    clock_.Advance(std::chrono::seconds(1));
  }
  EXPECT_THAT(dropped_, testing::IsEmpty());
  for (int second = 0; second < 12; ++second) {
    Reset("a", 200);
    clock_.Advance(std::chrono::seconds(1));
  }
  EXPECT_THAT(dropped_, testing::ElementsAre("a"));
}

TEST_F(ConnectionResetsTest, ManyPeersAreForgotten) {
  for (int i = 0; i < 20000; ++i) Reset(std::to_string(i), 1);
  EXPECT_THAT(dropped_, testing::IsEmpty());
  Reset("a", 1001);
  EXPECT_THAT(dropped_, testing::ElementsAre("a"));
}

}  // namespace
}  // namespace sheaf
