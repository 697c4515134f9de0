// Real processes over each transport: equal bits, and a worker's death or hang seen in time by
// name, with a replacement after. Workers are forked before the parent touches UCX; addresses
// travel over pipes, as the control plane carries them.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <optional>
#include <thread>

#include "exchange/local_expert_layer.h"
#include "exchange/remote_expert_layer.h"
#include "exchange/shared_memory/handshake.h"
#include "exchange/shared_memory/shared_memory_transport.h"
#include "exchange/two_reach_transport.h"
#include "exchange/ucx/ucx_transport.h"
#include "tests/exchange/random_experts.h"
#include "tests/exchange/test_seed.h"
#include "worker/serve_link.h"

namespace sheaf {
namespace {

using testing::HasSubstr;

constexpr int kLayers = 2;
constexpr int kExperts = 6;
constexpr int kHidden = 512;
constexpr int kInner = 128;
// For what succeeds; long, because a build beside the test can starve it.
constexpr int kPatienceMs = 100000;

enum class Kind { kSharedMemory, kUcx, kAllNear, kOneFar };

// Slot 1 of kOneFar is on another host, as far as its link can tell.
absl::StatusOr<std::unique_ptr<Transport>> NewTransport(Kind kind, WorkerId self) {
  if (kind == Kind::kSharedMemory) return std::make_unique<SharedMemoryTransport>();
  auto ucx = UcxTransport::Create();
  if (!ucx.ok()) return ucx.status();
  if (kind == Kind::kUcx) return *std::move(ucx);
  const bool far = kind == Kind::kOneFar && self == WorkerId(1);
  return std::make_unique<TwoReachTransport>(far ? "elsewhere" : HostIdentity(),
                                             std::make_unique<SharedMemoryTransport>(),
                                             *std::move(ucx));
}

// Length-prefixed messages over a pipe.
void WritePiece(int fd, const std::string& text) {
  const uint32_t size = static_cast<uint32_t>(text.size());
  if (write(fd, &size, sizeof(size)) != sizeof(size) ||
      write(fd, text.data(), size) != ssize_t(size))
    _exit(3);
}

bool ReadFully(int fd, void* to, size_t bytes) {
  auto* at = static_cast<char*>(to);
  while (bytes > 0) {
    pollfd waiting{fd, POLLIN, 0};
    if (poll(&waiting, 1, kPatienceMs) <= 0) return false;
    const ssize_t got = read(fd, at, bytes);
    if (got <= 0) return false;
    at += got;
    bytes -= static_cast<size_t>(got);
  }
  return true;
}

std::optional<std::string> ReadPiece(int fd) {
  uint32_t size = 0;
  if (!ReadFully(fd, &size, sizeof(size)) || size > 1u << 20) return std::nullopt;
  std::string text(size, '\0');
  if (!ReadFully(fd, text.data(), size)) return std::nullopt;
  return text;
}

// A worker process: for each epoch number read, a fresh link.
[[noreturn]] void RunWorker(Kind kind, WorkerId self, uint64_t seed, int from_parent,
                            int to_parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const RandomExperts experts(seed, kLayers, kExperts, kHidden, kInner);
  auto transport = NewTransport(kind, self);
  if (!transport.ok()) _exit(4);
  ThreadPool pool(1);
  std::thread serving;
  std::unique_ptr<WorkerLink> link;
  while (const std::optional<std::string> epoch = ReadPiece(from_parent)) {
    if (link != nullptr) {
      link->Abort(absl::CancelledError("next epoch"));
      serving.join();
      link->Close();
    }
    auto made = (*transport)->NewWorkerLink(Epoch(std::stoull(*epoch)), self);
    if (!made.ok()) _exit(5);
    link = *std::move(made);
    WritePiece(to_parent, link->address());
    const std::optional<std::string> router = ReadPiece(from_parent);
    if (!router || !link->Connect(*router).ok()) _exit(6);
    serving = std::thread([&, served = link.get()] {
      ExpertRunner runner(experts, pool, self);
      ServeLink(*served, runner, pool, nullptr).IgnoreError();
    });
  }
  _exit(0);
}

class ProcessLinkTest : public testing::TestWithParam<Kind>, public EpochSource {
 protected:
  struct Child {
    pid_t pid = -1;
    int to = -1, from = -1;
  };

  // Also the spare that replaces a lost worker: forking after UCX has started is not allowed.
  void Fork(int count) {
    for (int i = 0; i < count; ++i) {
      int down[2], up[2];
      ASSERT_EQ(pipe(down), 0);
      ASSERT_EQ(pipe(up), 0);
      const pid_t pid = fork();
      ASSERT_GE(pid, 0);
      if (pid == 0) {
        close(down[1]);
        close(up[0]);
        for (const Child& other : children_) {
          close(other.to);
          close(other.from);
        }
        const std::optional<std::string> slot = ReadPiece(down[0]);
        if (!slot) _exit(0);
        RunWorker(GetParam(), WorkerId(std::stoi(*slot)), seed_, down[0], up[1]);
      }
      close(down[0]);
      close(up[1]);
      children_.push_back({pid, down[1], up[0]});
    }
    auto transport = NewTransport(GetParam(), WorkerId(-1));
    ASSERT_TRUE(transport.ok()) << transport.status();
    transport_ = *std::move(transport);
  }

  void TakeSlot(size_t child, int slot) { WritePiece(children_[child].to, std::to_string(slot)); }

  // Opens an epoch with these children as workers 0, 1, ...
  void Open(uint64_t epoch, const std::vector<size_t>& members) {
    for (const size_t member : members) {
      int how = 0;
      ASSERT_EQ(waitpid(children_[member].pid, &how, WNOHANG), 0)
          << "process of child " << member << " ended: " << how;
    }
    auto link = transport_->NewRouterLink(Epoch(epoch));
    ASSERT_TRUE(link.ok()) << link.status();
    std::vector<LinkPeer> peers;
    for (size_t slot = 0; slot < members.size(); ++slot) {
      const Child& child = children_[members[slot]];
      WritePiece(child.to, std::to_string(epoch));
      const std::optional<std::string> address = ReadPiece(child.from);
      ASSERT_TRUE(address.has_value());
      WritePiece(child.to, (*link)->address());
      peers.push_back({WorkerId(static_cast<int32_t>(slot)), *address});
    }
    const absl::Status connected = (*link)->Connect(
        peers, std::chrono::steady_clock::now() + std::chrono::milliseconds(kPatienceMs));
    ASSERT_TRUE(connected.ok()) << connected;
    current_ = {std::shared_ptr<RouterLink>(*std::move(link)),
                std::make_shared<ExpertPlacement>(
                    ContiguousPlacement(kLayers, kExperts, int(members.size())))};
  }

  // A killed child is reaped at once, as its parent does in life: keepalive takes a zombie for
  // alive.
  void Kill(size_t child, int signal) {
    kill(children_[child].pid, signal);
    // Its other threads run on for a moment after the call.
    if (signal == SIGSTOP) waitpid(children_[child].pid, nullptr, WUNTRACED);
    if (signal != SIGKILL) return;
    waitpid(children_[child].pid, nullptr, 0);
    children_[child].pid = -1;
  }

  void TearDown() override {
    current_ = {};
    for (const Child& child : children_) {
      if (child.pid > 0) {
        kill(child.pid, SIGKILL);
        waitpid(child.pid, nullptr, 0);
      }
      close(child.to);
      close(child.from);
    }
  }

  absl::StatusOr<OpenEpoch> Current() override {
    if (current_.link == nullptr) return absl::UnavailableError("no open epoch");
    return current_;
  }
  void OnFault(Epoch, const LinkFault& fault) override {
    fault_ = fault;
    current_ = {};
  }

  absl::Status Run(ExpertLayer& layer, const RandomBatch& batch, std::vector<float>& sum) {
    sum.assign(batch.sum_floats(), 0);
    absl::Status status = layer.Begin(batch.At(++step_));
    if (status.ok()) status = layer.Finish(sum.data());
    return status;
  }

  void ExpectEqualToLocal(RemoteExpertLayer& remote, int num_tokens) {
    LocalExpertLayer local(experts_, kLayers, kExperts, pool_);
    const RandomBatch batch(random_, LayerId(1), num_tokens, kHidden, kExperts, 3);
    std::vector<float> want, got;
    ASSERT_TRUE(Run(local, batch, want).ok());
    const absl::Status status = Run(remote, batch, got);
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_EQ(0, std::memcmp(want.data(), got.data(), want.size() * sizeof(float)))
        << num_tokens << " tokens";
  }

  const uint64_t seed_ = TestSeed();
  testing::ScopedTrace trace_{__FILE__, __LINE__, "seed " + std::to_string(seed_)};
  std::mt19937_64 random_{seed_};
  RandomExperts experts_{seed_, kLayers, kExperts, kHidden, kInner};
  ThreadPool pool_{1};
  std::vector<Child> children_;
  std::unique_ptr<Transport> transport_;
  OpenEpoch current_;
  LinkFault fault_;
  uint64_t step_ = 0;
};

TEST_P(ProcessLinkTest, ProcessesGiveTheBitsOfOne) {
  ASSERT_NO_FATAL_FAILURE(Fork(3));
  for (int slot = 0; slot < 3; ++slot) TakeSlot(size_t(slot), slot);
  ASSERT_NO_FATAL_FAILURE(Open(1, {0, 1, 2}));
  for (int slot = 0; slot < 3; ++slot) EXPECT_NE(current_.link->PathTo(WorkerId(slot)), "");
  RemoteExpertLayer remote(
      *this, pool_, {.base_timeout = std::chrono::milliseconds(kPatienceMs), .chunk_tokens = 300});
  // From one eager message to rendezvous of megabytes, and a batch in parts.
  for (const int tokens : {1, 2, 5, 16, 64, 300, 700}) ExpectEqualToLocal(remote, tokens);
}

TEST_P(ProcessLinkTest, AKilledWorkerIsNamedAndAReplacementServes) {
  ASSERT_NO_FATAL_FAILURE(Fork(3));
  TakeSlot(0, 0);
  TakeSlot(1, 1);
  ASSERT_NO_FATAL_FAILURE(Open(1, {0, 1}));
  RemoteExpertLayer remote(*this, pool_, {.base_timeout = std::chrono::milliseconds(kPatienceMs)});
  ASSERT_NO_FATAL_FAILURE(ExpectEqualToLocal(remote, 4));

  Kill(1, SIGKILL);
  const RandomBatch batch(random_, LayerId(1), 4, kHidden, kExperts, kExperts);
  std::vector<float> sum;
  const TimePoint killed = std::chrono::steady_clock::now();
  const absl::Status status = Run(remote, batch, sum);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("worker 1 lost"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("layer 1"));
  EXPECT_THAT(fault_.suspects, testing::ElementsAre(WorkerId(1)));
  EXPECT_TRUE(fault_.certain);
  EXPECT_LT(std::chrono::steady_clock::now() - killed, std::chrono::seconds(60))
      << "seen by keepalive, not deadline";
  EXPECT_EQ(Run(remote, batch, sum).code(), absl::StatusCode::kUnavailable)
      << "until there is a new epoch";

  TakeSlot(2, 1);
  ASSERT_NO_FATAL_FAILURE(Open(2, {0, 2}));
  for (const int tokens : {1, 100}) ExpectEqualToLocal(remote, tokens);
}

TEST_P(ProcessLinkTest, AStoppedWorkerIsNamedAtTheDeadlineAndWhenItWakesItDisturbsNobody) {
  ASSERT_NO_FATAL_FAILURE(Fork(3));
  TakeSlot(0, 0);
  TakeSlot(1, 1);
  ASSERT_NO_FATAL_FAILURE(Open(1, {0, 1}));
  RemoteExpertLayer remote(*this, pool_, {.base_timeout = std::chrono::milliseconds(300)});
  Kill(0, SIGSTOP);
  const RandomBatch batch(random_, LayerId(0), 100, kHidden, kExperts, kExperts);
  std::vector<float> sum;
  const absl::Status status = Run(remote, batch, sum);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("worker 0 did not answer layer 0"));
  EXPECT_THAT(fault_.suspects, testing::ElementsAre(WorkerId(0)));
  EXPECT_FALSE(fault_.certain);

  TakeSlot(2, 0);
  ASSERT_NO_FATAL_FAILURE(Open(2, {2, 1}));
  RemoteExpertLayer patient(*this, pool_, {.base_timeout = std::chrono::milliseconds(kPatienceMs)});
  ASSERT_NO_FATAL_FAILURE(ExpectEqualToLocal(patient, 100));
  Kill(0, SIGCONT);
  for (int i = 0; i < 20; ++i) ASSERT_NO_FATAL_FAILURE(ExpectEqualToLocal(patient, 1 + i * 5));
}

// Megabytes under way in both directions when the worker dies: every step either has the right bits
// or names the worker. By the transport, as a rule; now and then (a death right after the link was
// opened) only by the deadline.
TEST_P(ProcessLinkTest, DeathAtAnyMomentIsNamedAndNeverGivesWrongBits) {
  constexpr size_t kRounds = 5;
  ASSERT_NO_FATAL_FAILURE(Fork(static_cast<int>(kRounds) + 2));
  TakeSlot(0, 0);
  for (size_t spare = 1; spare < kRounds + 2; ++spare) TakeSlot(spare, 1);
  LocalExpertLayer local(experts_, kLayers, kExperts, pool_);
  RemoteExpertLayer remote(*this, pool_,
                           {.base_timeout = std::chrono::seconds(2), .timeout_per_token = {}});
  const RandomBatch batch(random_, LayerId(0), 200, kHidden, kExperts, kExperts);
  std::vector<float> want, got;
  ASSERT_TRUE(Run(local, batch, want).ok());
  for (size_t round = 0; round < kRounds; ++round) {
    ASSERT_NO_FATAL_FAILURE(Open(round + 1, {0, round + 1}));
    std::thread killer(
        [&, delay = std::chrono::microseconds(random_() % 20000), victim = round + 1] {
          std::this_thread::sleep_for(delay);  // the random moment is what is tested
          Kill(victim, SIGKILL);
        });
    absl::Status status;
    while (status.ok()) {
      status = Run(remote, batch, got);
      EXPECT_TRUE(!status.ok() ||
                  std::memcmp(want.data(), got.data(), want.size() * sizeof(float)) == 0);
    }
    killer.join();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("worker 1"));
  }
  ASSERT_NO_FATAL_FAILURE(Open(kRounds + 1, {0, kRounds + 1}));
  EXPECT_TRUE(Run(remote, batch, got).ok());
  EXPECT_EQ(0, std::memcmp(want.data(), got.data(), want.size() * sizeof(float)));
}

TEST_P(ProcessLinkTest, AbortFromAnotherThreadWakesTheWaiter) {
  ASSERT_NO_FATAL_FAILURE(Fork(1));
  TakeSlot(0, 0);
  ASSERT_NO_FATAL_FAILURE(Open(1, {0}));
  Kill(0, SIGSTOP);
  RemoteExpertLayer remote(*this, pool_, {.base_timeout = std::chrono::seconds(60)});
  const RandomBatch batch(random_, LayerId(0), 1, kHidden, kExperts, 2);
  std::vector<float> sum(batch.sum_floats());
  ASSERT_TRUE(remote.Begin(batch.At(1)).ok());
  std::thread controller([link = current_.link] {
    link->Abort(absl::UnavailableError("worker 0 lost: lease expired"));
  });
  const absl::Status status = remote.Finish(sum.data());
  controller.join();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("lease expired"));
}

INSTANTIATE_TEST_SUITE_P(Transports, ProcessLinkTest,
                         testing::Values(Kind::kSharedMemory, Kind::kUcx, Kind::kAllNear,
                                         Kind::kOneFar),
                         [](const testing::TestParamInfo<Kind>& param) -> std::string {
                           switch (param.param) {
                             case Kind::kSharedMemory:
                               return "SharedMemory";
                             case Kind::kUcx:
                               return "Ucx";
                             case Kind::kAllNear:
                               return "AllNear";
                             case Kind::kOneFar:
                               return "OneFar";
                           }
                           return "";
                         });

}  // namespace
}  // namespace sheaf
