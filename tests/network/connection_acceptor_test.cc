// Real sockets and a real limit of descriptors.
#include "network/connection_acceptor.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <atomic>
#include <thread>

#include "absl/synchronization/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace sheaf {
namespace {

UniqueFd Connect(uint16_t port) {
  UniqueFd client(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    client.reset();
  }
  return client;
}

// Whether the other end has closed it, within ten seconds.
bool IsClosed(const UniqueFd& client) {
  pollfd entry{client.get(), POLLIN, 0};
  char byte = 0;
  return poll(&entry, 1, 10000) == 1 && recv(client.get(), &byte, 1, 0) <= 0;
}

template <typename Condition>
bool WaitFor(Condition condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

class ConnectionAcceptorTest : public testing::Test {
 protected:
  void Start(ConnectionAcceptorOptions options = {.name = "test", .host = "127.0.0.1"}) {
    auto acceptor = ConnectionAcceptor::Listen(options);
    ASSERT_TRUE(acceptor.ok()) << acceptor.status();
    acceptor_ = *std::move(acceptor);
    acceptor_->Start({[this](int socket, bool crowded) {
                        UniqueFd owned(socket);
                        absl::MutexLock lock(&mutex_);
                        crowded_ += crowded;
                        if (!crowded) taken_.push_back(std::move(owned));
                      },
                      [this] { ++refused_; }});
  }

  size_t taken() {
    absl::MutexLock lock(&mutex_);
    return taken_.size();
  }
  void CloseTaken() {
    absl::MutexLock lock(&mutex_);
    taken_.clear();
  }

  absl::Mutex mutex_;
  std::vector<UniqueFd> taken_;
  int crowded_ = 0;
  std::atomic<int> refused_{0};
  std::unique_ptr<ConnectionAcceptor> acceptor_;
};

TEST_F(ConnectionAcceptorTest, HandsOverWhatConnects) {
  Start();
  const UniqueFd client = Connect(acceptor_->port());
  ASSERT_TRUE(WaitFor([&] { return taken() == 1; }));
  EXPECT_NE(fcntl(taken_[0].get(), F_GETFL) & O_NONBLOCK, 0);
  EXPECT_NE(fcntl(taken_[0].get(), F_GETFD) & FD_CLOEXEC, 0);
  acceptor_->Stop();
  EXPECT_FALSE(Connect(acceptor_->port()).valid());
}

TEST_F(ConnectionAcceptorTest, ATakenPortIsAnErrorThatNamesIt) {
  Start();
  const auto second = ConnectionAcceptor::Listen(
      {.name = "test", .host = "127.0.0.1", .port = acceptor_->port()});
  ASSERT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()),
              testing::HasSubstr("127.0.0.1:" + std::to_string(acceptor_->port())));
  EXPECT_FALSE(ConnectionAcceptor::Listen({.name = "test", .host = "no such host"}).ok());
}

TEST_F(ConnectionAcceptorTest, NumbersFromTheCeilingOnAreCrowded) {
  Start({.name = "test", .host = "127.0.0.1", .descriptor_ceiling = 1});
  const UniqueFd client = Connect(acceptor_->port());
  EXPECT_TRUE(IsClosed(client));
  acceptor_->Stop();
  EXPECT_EQ(crowded_, 1);
}

// With no descriptor left the newest is refused at once, and the next is served as soon as there is
// one again.
TEST_F(ConnectionAcceptorTest, OutOfDescriptorsAndBack) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "the sanitizer's own checks open pipes";
#endif
  Start();
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 20; ++i) clients.push_back(Connect(acceptor_->port()));
  ASSERT_TRUE(WaitFor([&] { return taken() == 20; }));
  std::vector<UniqueFd> sockets;  // made before there is nothing left
  for (int i = 0; i < 3; ++i) sockets.push_back(UniqueFd(socket(AF_INET, SOCK_STREAM, 0)));
  rlimit saved{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &saved), 0);
  const rlimit none{static_cast<rlim_t>(sockets.back().get() + 1), saved.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  while (open("/dev/null", O_RDONLY | O_CLOEXEC) >= 0) {  // gaps below
  }
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(acceptor_->port());
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  for (const UniqueFd& client : sockets) {
    ASSERT_EQ(
        connect(client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_TRUE(IsClosed(client));
  }
  EXPECT_TRUE(WaitFor([&] { return refused_ == 3; }));
  EXPECT_EQ(taken(), 20u);
  CloseTaken();
  clients.clear();
  for (int i = 0; i < 10; ++i) clients.push_back(Connect(acceptor_->port()));
  EXPECT_TRUE(WaitFor([&] { return taken() == 10; }));
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &saved), 0);
}

}  // namespace
}  // namespace sheaf
