// What a service manager is told, over a socket like systemd's.
#include "cli/process/service_manager.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace sheaf {
namespace {

using std::chrono::seconds;
using testing::ElementsAre;
using testing::IsEmpty;

class ServiceManagerTest : public testing::Test {
 protected:
  void SetUp() override {
    listener_ = UniqueFd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    name_ = "@sheaf-test-" + std::to_string(getpid()) + "-" +
            testing::UnitTest::GetInstance()->current_test_info()->name();
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path + 1, name_.data() + 1, name_.size() - 1);
    ASSERT_EQ(bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address),
                   static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name_.size())),
              0);
  }

  // All that has been told. A datagram to this machine is there once it is sent.
  std::vector<std::string> Told() {
    std::vector<std::string> told;
    char text[256];
    for (;;) {
      const ssize_t got = recv(listener_.get(), text, sizeof(text), MSG_DONTWAIT);
      if (got <= 0) return told;
      told.emplace_back(text, static_cast<size_t>(got));
    }
  }

  UniqueFd listener_;
  std::string name_;
  ManualClock clock_;
};

TEST_F(ServiceManagerTest, ALifeIsTold) {
  ServiceManager manager({name_, Duration::zero()}, clock_);
  manager.StatusIs("loading");
  manager.StatusIs("loading");
  manager.Ready();
  manager.StatusIs("ready");
  manager.Tick(true);  // no watchdog
  manager.Stopping();
  EXPECT_THAT(Told(), ElementsAre("STATUS=loading", "READY=1", "STATUS=ready", "STOPPING=1"));
}

TEST_F(ServiceManagerTest, ProgressIsToldFourTimesInTheWatchdogsTime) {
  ServiceManager manager({name_, seconds(40)}, clock_);
  manager.Tick(true);
  EXPECT_THAT(Told(), ElementsAre("WATCHDOG=1"));
  for (int i = 0; i < 39; ++i) {
    clock_.Advance(seconds(1));
    manager.Tick(true);
  }
  EXPECT_EQ(Told().size(), 3u);
}

TEST_F(ServiceManagerTest, WithoutProgressNothingIsTold) {
  ServiceManager manager({name_, seconds(40)}, clock_);
  manager.Tick(true);
  Told();
  clock_.Advance(seconds(30));
  manager.Tick(false);
  EXPECT_THAT(Told(), IsEmpty());
  clock_.Advance(seconds(1));
  manager.Tick(true);  // at once, when it goes on
  EXPECT_THAT(Told(), ElementsAre("WATCHDOG=1"));
}

TEST_F(ServiceManagerTest, EachCounterMustGrow) {
  ServiceManager manager({name_, seconds(40)}, clock_);
  manager.TickRounds({5, 7});
  EXPECT_THAT(Told(), ElementsAre("WATCHDOG=1"));
  clock_.Advance(seconds(10));
  manager.TickRounds({6, 7});
  manager.TickRounds({600, 7});
  EXPECT_THAT(Told(), IsEmpty());
  manager.TickRounds({600, 8});
  EXPECT_THAT(Told(), ElementsAre("WATCHDOG=1"));
  clock_.Advance(seconds(10));
  manager.TickRounds({600, 9});  // nothing since
  EXPECT_THAT(Told(), IsEmpty());
}

TEST_F(ServiceManagerTest, TheEnvironmentSaysWhoAndLosesIt) {
  setenv("NOTIFY_SOCKET", name_.c_str(), 1);
  setenv("WATCHDOG_USEC", "40000000", 1);
  setenv("WATCHDOG_PID", std::to_string(getpid()).c_str(), 1);
  const ServiceManagerAddress mine = ServiceManagerAddress::Take();
  EXPECT_EQ(mine.socket, name_);
  EXPECT_EQ(mine.watchdog, Duration(seconds(40)));
  for (const char* name : {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}) {
    EXPECT_EQ(std::getenv(name), nullptr) << name;
  }
  EXPECT_EQ(ServiceManagerAddress::Take().socket, "");
  setenv("WATCHDOG_USEC", "40000000", 1);
  setenv("WATCHDOG_PID", "1", 1);  // another's
  EXPECT_EQ(ServiceManagerAddress::Take().watchdog, Duration::zero());
}

TEST(ServiceManager, NobodyIsToldWhereNobodyListens) {
  const SteadyClock clock;
  for (const char* name : {"", "/nowhere/notify", "@sheaf-test-nobody"}) {
    ServiceManager manager({name, seconds(1)}, clock);
    manager.Ready();
    manager.Tick(true);
    manager.Stopping();
  }
}

}  // namespace
}  // namespace sheaf
