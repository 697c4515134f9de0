// Links between real processes: a worker that is killed is seen at once and after all that it had
// sent, one that is stopped fills its link and nobody else's, and goes on when it is continued.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

#include "tests/exchange/link_rig.h"

namespace sheaf {
namespace {

constexpr size_t kMaxBytes = size_t{64} << 20;

// A worker process that sends every frame back. Forked while this process has one thread.
class EchoWorker {
 public:
  explicit EchoWorker(Mover mover) {
    int ends[2];
    EXPECT_EQ(pipe(ends), 0);
    pid_ = fork();
    if (pid_ == 0) {
      close(ends[0]);
      Run(mover, ends[1]);
    }
    close(ends[1]);
    UniqueFd from(ends[0]);
    char text[512];
    pollfd waiting{from.get(), POLLIN, 0};
    if (poll(&waiting, 1, 60'000) == 1) {
      const ssize_t got = read(from.get(), text, sizeof(text));
      if (got > 0) address_.assign(text, static_cast<size_t>(got));
    }
    EXPECT_NE(address_, "");
  }
  ~EchoWorker() {
    if (pid_ > 0) Kill();
  }

  void Kill() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  void Stop() {
    kill(pid_, SIGSTOP);
    waitpid(pid_, nullptr, WUNTRACED);  // it has stopped
  }
  void Continue() { kill(pid_, SIGCONT); }
  const std::string& address() const { return address_; }

  static LinkIdentity Identity() { return {77, InstanceId(5), LinkSecret{1, 2, 3}}; }

 private:
  [[noreturn]] static void Run(Mover mover, int to) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    InProcessNetwork unused;
    const auto bell = NewBell();
    absl::Mutex mutex;
    std::vector<std::unique_ptr<FrameLink>> fresh;
    LinkListenerOptions options;
    options.self = Identity();
    const auto maker = NewMaker(mover, unused, kMaxBytes);
    auto listener =
        maker->Listen(options, *bell, [&](std::unique_ptr<FrameLink> link, const Hello&) {
          {
            absl::MutexLock lock(&mutex);
            fresh.push_back(std::move(link));
          }
          bell->Ring();
        });
    if (!listener.ok()) _exit(3);
    const std::string address = (*listener)->addresses()[0];
    if (write(to, address.data(), address.size()) < 0) _exit(4);
    std::vector<std::unique_ptr<FrameLink>> links;
    for (;;) {
      const uint32_t seen = bell->rings();
      {
        absl::MutexLock lock(&mutex);
        for (auto& link : fresh) links.push_back(std::move(link));
        fresh.clear();
      }
      bool moved = false;
      for (auto& link : links) {
        const auto frame = link->Next();
        if (!frame.ok() || !frame->has_value()) continue;
        moved = true;
        const auto out = link->Reserve((*frame)->payload.size());
        if (!out.ok()) _exit(5);
        std::copy((*frame)->payload.begin(), (*frame)->payload.end(), out->begin());
        if (!link->Send((*frame)->header).ok()) _exit(6);
        link->Release();
      }
      if (!moved) bell->WaitPast(seen, In(std::chrono::seconds(60)));
    }
  }

  pid_t pid_ = -1;
  std::string address_;
};

class RouterEnd {
 public:
  explicit RouterEnd(Mover mover)
      : bell_(NewBell()), maker_(NewMaker(mover, unused_, kMaxBytes)),
        connector_(maker_->NewConnector()) {}

  absl::StatusOr<std::unique_ptr<FrameLink>> Connect(const EchoWorker& worker,
                                                     Duration timeout = kPatience) {
    const LinkIdentity peer = EchoWorker::Identity();
    return connector_->Connect({worker.address()},
                               {peer.model_digest, peer.instance, InstanceId(8),
                                LinkId(++last_link_),
                                LinkKeyFor(peer.secret, peer.instance, InstanceId(8))},
                               *bell_, In(timeout));
  }
  Bell& bell() { return *bell_; }

 private:
  InProcessNetwork unused_;
  std::unique_ptr<Bell> bell_;
  std::unique_ptr<LinkMaker> maker_;
  std::unique_ptr<LinkConnector> connector_;
  uint64_t last_link_ = 0;
};

class LinkProcessesTest : public testing::TestWithParam<Mover> {};

void ExpectEcho(FrameLink& link, Bell& bell, uint64_t sequence, size_t bytes) {
  ASSERT_TRUE(SendPattern(link, sequence, bytes).ok());
  const auto frame = WaitNext(link, bell, In(kPatience));
  ASSERT_TRUE(frame.ok() && frame->has_value()) << frame.status();
  EXPECT_EQ((*frame)->header.sequence, sequence);
  EXPECT_TRUE(IsPattern(**frame));
  link.Release();
}

TEST_P(LinkProcessesTest, AKilledWorkerIsSeenAtOnceAndConcernsNobodyElse) {
  EchoWorker first(GetParam()), second(GetParam());
  RouterEnd router(GetParam());
  auto dying = router.Connect(first);
  auto living = router.Connect(second);
  ASSERT_TRUE(dying.ok() && living.ok()) << dying.status() << living.status();
  for (uint64_t sequence = 1; sequence <= 20; ++sequence) {
    ExpectEcho(**dying, router.bell(), sequence, 5000 * sequence);
    ExpectEcho(**living, router.bell(), sequence, 3000 * sequence);
  }
  first.Kill();
  const auto start = std::chrono::steady_clock::now();
  const auto end = WaitNext(**dying, router.bell(), In(kPatience));
  EXPECT_EQ(end.status().code(), absl::StatusCode::kUnavailable) << end.status();
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
  ExpectEcho(**living, router.bell(), 21, 100'000);
  EXPECT_EQ(router.Connect(first).status().code(), absl::StatusCode::kUnavailable);
}

// Killed in the middle of its answers: whole ones in order, then the end.
TEST_P(LinkProcessesTest, AnswersBeforeADeathAreWholeAndInOrder) {
  EchoWorker worker(GetParam());
  RouterEnd router(GetParam());
  auto link = router.Connect(worker);
  ASSERT_TRUE(link.ok()) << link.status();
  for (uint64_t sequence = 1; sequence <= 30; ++sequence)
    ASSERT_TRUE(SendPattern(**link, sequence, 50'000).ok());
  uint64_t got = 0;
  for (;;) {
    const auto frame = WaitNext(**link, router.bell(), In(kPatience));
    if (!frame.ok()) {
      EXPECT_EQ(frame.status().code(), absl::StatusCode::kUnavailable);
      break;
    }
    ASSERT_TRUE(frame->has_value());
    EXPECT_EQ((*frame)->header.sequence, ++got);
    EXPECT_TRUE(IsPattern(**frame));
    if (got == 3) worker.Kill();
  }
  EXPECT_GE(got, 3u);
}

TEST_P(LinkProcessesTest, AStoppedWorkerFillsItsLinkAndGoesOnLater) {
  EchoWorker stopped(GetParam()), running(GetParam());
  RouterEnd router(GetParam());
  auto full = router.Connect(stopped);
  auto other = router.Connect(running);
  ASSERT_TRUE(full.ok() && other.ok());
  stopped.Stop();
  // Little enough for the kernel's buffers, so that TCP's own timeout is not in question here.
  uint64_t sent = 0;
  while (sent < 5 && SendPattern(**full, sent + 1, 5000).ok()) ++sent;
  EXPECT_EQ(sent, 5u);
  for (uint64_t sequence = 1; sequence <= 100; ++sequence)
    ExpectEcho(**other, router.bell(), sequence, 10'000);
  const auto nothing = (*full)->Next();
  EXPECT_TRUE(nothing.ok() && !nothing->has_value());
  stopped.Continue();
  for (uint64_t sequence = 1; sequence <= 5; ++sequence) {
    const auto frame = WaitNext(**full, router.bell(), In(kPatience));
    ASSERT_TRUE(frame.ok() && frame->has_value()) << frame.status();
    EXPECT_EQ((*frame)->header.sequence, sequence);
    EXPECT_TRUE(IsPattern(**frame));
  }
}

TEST_P(LinkProcessesTest, AStoppedWorkerCannotMakeTheRouterHoardOrWait) {
  EchoWorker worker(GetParam());
  RouterEnd router(GetParam());
  auto link = router.Connect(worker);
  ASSERT_TRUE(link.ok());
  worker.Stop();
  absl::Status status;
  uint64_t sent = 0;
  while (sent < 1000 && (status = SendPattern(**link, sent + 1, 1 << 20).ok()
                                      ? absl::OkStatus()
                                      : (*link)->Reserve(1 << 20).status())
                            .ok())
    ++sent;
  // Full; or, over TCP, given up by the kernel after a while of no room.
  EXPECT_TRUE(absl::IsResourceExhausted(status) || absl::IsUnavailable(status)) << status;
  EXPECT_LE(sent, kMaxBytes / (1 << 20) + 32);
  EXPECT_EQ(router.Connect(worker, std::chrono::milliseconds(50)).status().code(),
            absl::StatusCode::kUnavailable);
}

TEST_P(LinkProcessesTest, LinksLeaveNoDescriptorBehind) {
  EchoWorker worker(GetParam());
  RouterEnd router(GetParam());
  const auto descriptors = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/fd"),
                         std::filesystem::directory_iterator{});
  };
  { ASSERT_TRUE(router.Connect(worker).ok()); }
  const auto before = descriptors();
  for (int i = 0; i < 50; ++i) {
    auto link = router.Connect(worker);
    ASSERT_TRUE(link.ok()) << link.status();
    ExpectEcho(**link, router.bell(), 1, 100);
  }
  EXPECT_EQ(descriptors(), before);
}

INSTANTIATE_TEST_SUITE_P(Movers, LinkProcessesTest,
                         testing::Values(Mover::kSharedMemory, Mover::kTcp),
                         [](const auto& mover) { return NameOf(mover.param); });

}  // namespace
}  // namespace sheaf
