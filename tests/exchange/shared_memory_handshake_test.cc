// Who may join a shared-memory link: the peer that the control plane named, and nobody else.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <thread>

#include "exchange/shared_memory/frame_lane.h"
#include "exchange/shared_memory/handshake.h"
#include "exchange/shared_memory/shared_memory_transport.h"

namespace sheaf {
namespace {

using testing::HasSubstr;

constexpr auto kSoon = std::chrono::milliseconds(200);
constexpr auto kPatience = std::chrono::seconds(60);

TimePoint In(Duration duration) { return std::chrono::steady_clock::now() + duration; }

TEST(SharedMemoryAddress, RoundTrips) {
  const auto address = SharedMemoryAddress::New();
  ASSERT_TRUE(address.ok()) << address.status();
  EXPECT_NE(address->host, "");
  const auto parsed = SharedMemoryAddress::Parse(address->ToString());
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->host, address->host);
  EXPECT_EQ(parsed->name, address->name);
  EXPECT_NE(SharedMemoryAddress::New()->name, address->name);
}

TEST(SharedMemoryAddress, RefusesWhatIsNone) {
  for (const char* text :
       {"", "shm:", "shm::", "shm:host:", "shm:host:xyz",
        "tcp:host:0123456789abcdef0123456789abcdef", "shm:host:0123456789ABCDEF0123456789abcdef",
        "shm:host:0123456789abcdef0123456789abcdef0"}) {
    EXPECT_EQ(SharedMemoryAddress::Parse(text).status().code(), absl::StatusCode::kInvalidArgument)
        << text;
  }
}

class SharedMemoryLinkTest : public testing::Test {
 protected:
  void SetUp() override {
    auto router = transport_.NewRouterLink(Epoch(7));
    auto worker = transport_.NewWorkerLink(Epoch(7), WorkerId(0));
    ASSERT_TRUE(router.ok() && worker.ok());
    router_ = *std::move(router);
    worker_ = *std::move(worker);
  }

  SharedMemoryTransport transport_;
  std::unique_ptr<RouterLink> router_;
  std::unique_ptr<WorkerLink> worker_;
};

TEST_F(SharedMemoryLinkTest, AWorkerThatNeverComesIsNamed) {
  const LinkPeer peers[] = {{WorkerId(0), worker_->address()}};
  const absl::Status status = router_->Connect(peers, In(kSoon));
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(status.message()), HasSubstr("worker 0 did not answer the hello"));
  EXPECT_THAT(router_->fault().suspects, testing::ElementsAre(WorkerId(0)));
}

TEST_F(SharedMemoryLinkTest, StrangersAreTurnedAway) {
  const auto at = SharedMemoryAddress::Parse(router_->address());
  ASSERT_TRUE(at.ok());
  auto impostor = transport_.NewWorkerLink(Epoch(7), WorkerId(0));  // another name
  auto of_old_epoch = transport_.NewWorkerLink(Epoch(6), WorkerId(0));
  ASSERT_TRUE((*impostor)->Connect(router_->address()).ok());
  ASSERT_TRUE((*of_old_epoch)->Connect(router_->address()).ok());
  const auto garbage = ConnectTo(at->name);
  ASSERT_TRUE(garbage.ok());
  ASSERT_EQ(send(garbage->get(), "hello", 5, 0), 5);
  ASSERT_TRUE(worker_->Connect(router_->address()).ok());

  const LinkPeer peers[] = {{WorkerId(0), worker_->address()}};
  absl::StatusOr<ReceivedDispatch> nothing;
  std::thread serving([&] { nothing = worker_->Receive(In(kPatience)); });
  const absl::Status connected = router_->Connect(peers, In(kPatience));
  EXPECT_TRUE(connected.ok()) << connected;
  EXPECT_EQ((*impostor)->Receive(In(kPatience)).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ((*of_old_epoch)->Receive(In(kPatience)).status().code(),
            absl::StatusCode::kUnavailable);
  router_->Close();
  serving.join();
  EXPECT_THAT(std::string(nothing.status().message()), HasSubstr("router lost"));
}

TEST_F(SharedMemoryLinkTest, AHandshakeWithOtherDescriptorsLosesThatWorkerByName) {
  const auto at = SharedMemoryAddress::Parse(router_->address());
  const auto self = SharedMemoryAddress::Parse(worker_->address());
  const auto socket = ConnectTo(at->name);
  ASSERT_TRUE(socket.ok());
  const UniqueFd no_memory(eventfd(0, EFD_CLOEXEC));
  ASSERT_TRUE(SendHandshake(socket->get(), {Epoch(7), WorkerId(0), self->name, {}, {}},
                            no_memory.get(), no_memory.get())
                  .ok());
  const LinkPeer peers[] = {{WorkerId(0), worker_->address()}};
  const absl::Status status = router_->Connect(peers, In(kPatience));
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("worker 0 lost"));
}

TEST_F(SharedMemoryLinkTest, APeerOnAnotherHostIsRefusedWithBothNames) {
  const LinkPeer peers[] = {{WorkerId(0), "shm:elsewhere:0123456789abcdef0123456789abcdef"}};
  const absl::Status status = router_->Connect(peers, In(kSoon));
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("worker 0 lost: it is on host elsewhere"));
}

TEST_F(SharedMemoryLinkTest, AbortEndsAWaitForTheHandshake) {
  const LinkPeer peers[] = {{WorkerId(0), worker_->address()}};
  std::thread controller([&] { router_->Abort(absl::CancelledError("given up")); });
  EXPECT_EQ(router_->Connect(peers, In(kPatience)).message(), "given up");
  controller.join();
}

TEST_F(SharedMemoryLinkTest, AWorkerFindsTheRouterGone) {
  router_->Close();
  const absl::Status status = worker_->Connect(router_->address());
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("router lost"));
}

}  // namespace
}  // namespace sheaf
