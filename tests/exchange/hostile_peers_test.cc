// What strangers and broken peers can do to a listener and to a link: nothing but lose their own
// connection.

#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <atomic>
#include <random>
#include <thread>

#include "exchange/shared_memory/frame_lane.h"
#include "exchange/shared_memory/unix_socket.h"
#include "exchange/tcp/tcp_address.h"
#include "exchange/tcp/tcp_socket.h"
#include "tests/exchange/link_rig.h"
#include "tests/exchange/test_seed.h"

namespace sheaf {
namespace {

using testing::HasSubstr;

HelloBytes HelloOf(const LinkRequest& request, FrameIntegrity integrity) {
  return RouterHandshake(request, integrity, FreshNonce()).hello();
}
FrameIntegrity IntegrityOf(Mover mover) {
  return mover == Mover::kTcp ? FrameIntegrity::kMac : FrameIntegrity::kNone;
}

// A plain connection to a rig's listener, of either kind, that does not block.
UniqueFd RawConnection(const LinkRig& rig) {
  const std::string& address = rig.addresses()[0];
  if (const auto shared = SharedMemoryAddress::Parse(address); shared.ok()) {
    auto socket = ConnectTo(shared->name);
    return socket.ok() ? *std::move(socket) : UniqueFd();
  }
  const auto to = TcpAddress::Parse(address);
  EXPECT_TRUE(to.ok()) << to.status();
  auto socket = ConnectTcp(*to, nullptr, In(kPatience));
  return socket.ok() ? *std::move(socket) : UniqueFd();
}

// Bytes until the other side hangs up; nullopt: it did not.
std::optional<std::string> ReadToTheEnd(int socket) {
  std::string all;
  for (;;) {
    pollfd waiting{socket, POLLIN, 0};
    if (poll(&waiting, 1, 60'000) <= 0) return std::nullopt;
    char bytes[256];
    const ssize_t got = recv(socket, bytes, sizeof(bytes), 0);
    if (got <= 0) return all;
    all.append(bytes, static_cast<size_t>(got));
  }
}

bool SendAll(int socket, std::span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    pollfd waiting{socket, POLLOUT, 0};
    if (poll(&waiting, 1, 60'000) <= 0) return false;
    const ssize_t sent = send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes = bytes.subspan(static_cast<size_t>(sent));
  }
  return true;
}

class HostilePeersTest : public testing::TestWithParam<Mover> {};

TEST_P(HostilePeersTest, WhoSaysNothingIsShownOut) {
  LinkListenerOptions options;
  options.hello_timeout = std::chrono::milliseconds(50);
  LinkRig rig(GetParam(), options);
  const UniqueFd silent = RawConnection(rig);
  ASSERT_TRUE(silent.valid());
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(ReadToTheEnd(silent.get()), "");
  EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(40));
  EXPECT_TRUE(rig.NewPair().worker != nullptr);
}

TEST_P(HostilePeersTest, ManyWhoSayNothingDoNotKeepOthersOut) {
  LinkListenerOptions options;
  options.max_links = 4;
  options.hello_timeout = std::chrono::hours(1);
  LinkRig rig(GetParam(), options);
  std::vector<UniqueFd> silent;
  for (int i = 0; i < 20; ++i) silent.push_back(RawConnection(rig));
  const auto pair = rig.NewPair();
  EXPECT_TRUE(pair.router && pair.worker);
}

TEST_P(HostilePeersTest, AnotherVersionIsToldSo) {
  LinkRig rig(GetParam());
  const UniqueFd socket = RawConnection(rig);
  HelloBytes hello = HelloOf(rig.GoodRequest(), IntegrityOf(GetParam()));
  hello[4] += 1;
  ASSERT_TRUE(SendAll(socket.get(), hello));
  const auto answer = ReadToTheEnd(socket.get());
  ASSERT_TRUE(answer.has_value());
  const auto decoded = DecodeHelloAnswer(
      {reinterpret_cast<const uint8_t*>(answer->data()), answer->size()});
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->verdict, HelloVerdict::kOtherVersion);
}

TEST_P(HostilePeersTest, RandomBytesForAWhileLeaveLiveLinksAlone) {
  const uint64_t seed = TestSeed();
  SCOPED_TRACE(seed);
  LinkRig rig(GetParam());
  auto [router, worker] = rig.NewPair();
  ASSERT_TRUE(router && worker);
  std::atomic<bool> stop{false};
  std::thread stranger([&] {
    std::mt19937_64 random(seed);
    while (!stop.load()) {
      const UniqueFd socket = RawConnection(rig);
      if (!socket.valid()) continue;
      std::vector<uint8_t> bytes(random() % 300);
      for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
      const HelloBytes start = HelloOf(rig.GoodRequest(), IntegrityOf(GetParam()));
      // Half of them begin as a hello does.
      if (random() % 2 == 0) {
        std::copy_n(start.begin(), std::min<size_t>(bytes.size(), 4 + random() % 61),
                    bytes.begin());
      }
      SendAll(socket.get(), bytes);
    }
  });
  for (uint64_t sequence = 1; sequence <= 3000; ++sequence) {
    ASSERT_TRUE(SendPattern(*router, sequence, 2000).ok());
    const auto frame = WaitNext(*worker, rig.worker_bell(), In(kPatience));
    ASSERT_TRUE(frame.ok() && frame->has_value()) << frame.status();
    ASSERT_TRUE(IsPattern(**frame));
    worker->Release();
  }
  stop.store(true);
  stranger.join();
  const auto pair = rig.NewPair();
  EXPECT_TRUE(pair.router && pair.worker);
}

INSTANTIATE_TEST_SUITE_P(Movers, HostilePeersTest,
                         testing::Values(Mover::kSharedMemory, Mover::kTcp),
                         [](const auto& mover) { return NameOf(mover.param); });

// --- TCP without tags: a peer with the key that then writes what it likes.

class RawTcpRouter {
 public:
  explicit RawTcpRouter(LinkRig& rig) : socket_(RawConnection(rig)) {
    const LinkRequest request = rig.GoodRequest();
    RouterHandshake handshake(request, FrameIntegrity::kNone, FreshNonce());
    InPieces(handshake.hello());
    const auto proof = handshake.Prove(ReadAnswer());
    EXPECT_TRUE(proof.ok()) << proof.status();
    InPieces(*proof);
    EXPECT_TRUE(handshake.Finish(ReadAnswer()).ok());
    link_ = request.link;
    worker_ = rig.Accepted(request.link);
  }
  void Write(FrameHeader header, size_t payload_bytes) {
    header.link = header.link == LinkId() ? link_ : header.link;
    Bytes(EncodeFrameHeader(header), payload_bytes);
  }
  void Bytes(const FrameHeaderBytes& header, size_t payload_bytes) {
    std::vector<uint8_t> bytes(header.size() + payload_bytes);
    std::copy(header.begin(), header.end(), bytes.begin());
    EXPECT_TRUE(SendAll(socket_.get(), bytes));
  }
  FrameLink& worker() { return *worker_; }
  int socket() const { return socket_.get(); }
  LinkId link() const { return link_; }

 private:
  // One byte at a time: a hello may come so.
  void InPieces(std::span<const uint8_t> bytes) {
    for (const uint8_t& byte : bytes) EXPECT_TRUE(SendAll(socket_.get(), {&byte, 1}));
  }
  HelloAnswerBytes ReadAnswer() {
    HelloAnswerBytes bytes{};
    for (size_t have = 0; have < bytes.size();) {
      pollfd waiting{socket_.get(), POLLIN, 0};
      if (poll(&waiting, 1, 60'000) <= 0) break;
      const ssize_t got = recv(socket_.get(), bytes.data() + have, bytes.size() - have, 0);
      if (got <= 0) break;
      have += static_cast<size_t>(got);
    }
    return bytes;
  }

  UniqueFd socket_;
  LinkId link_;
  std::unique_ptr<FrameLink> worker_;
};

TEST(TcpLinks, FramesOfAnotherLifeAreVoid) {
  LinkRig rig(Mover::kTcpWithoutMac);
  RawTcpRouter peer(rig);
  FrameHeader header = DispatchHeader(1, 100'000);
  header.link = LinkId(peer.link().value() + 1);
  peer.Write(header, 100'000);
  peer.Write(DispatchHeader(2, 7), 7);
  const auto frame = WaitNext(peer.worker(), rig.worker_bell(), In(kPatience));
  ASSERT_TRUE(frame.ok() && frame->has_value()) << frame.status();
  EXPECT_EQ((*frame)->header.sequence, 2u);
}

TEST(TcpLinks, NonsenseEndsThatLinkAndSaysWhose) {
  const auto broken_by = [](const std::function<void(RawTcpRouter&)>& write) {
    LinkRig rig(Mover::kTcpWithoutMac);
    RawTcpRouter peer(rig);
    peer.Write(DispatchHeader(1, 10), 10);  // what came before is still read
    write(peer);
    auto frame = WaitNext(peer.worker(), rig.worker_bell(), In(kPatience));
    EXPECT_TRUE(frame.ok() && frame->has_value()) << frame.status();
    frame = WaitNext(peer.worker(), rig.worker_bell(), In(kPatience));
    EXPECT_EQ(frame.status().code(), absl::StatusCode::kInvalidArgument) << frame.status();
    EXPECT_EQ(peer.worker().Reserve(1).status(), frame.status());
    EXPECT_EQ(ReadToTheEnd(peer.socket()).value_or("still open"), "");
    EXPECT_THAT(std::string(frame.status().message()), HasSubstr("tcp 127.0.0.1:"));
    return std::string(frame.status().message());
  };
  EXPECT_THAT(broken_by([](RawTcpRouter& peer) {
                FrameHeaderBytes bytes = EncodeFrameHeader(DispatchHeader(2, 0));
                bytes[0] = 'X';
                peer.Bytes(bytes, 0);
              }),
              HasSubstr("magic"));
  EXPECT_THAT(broken_by([](RawTcpRouter& peer) {
                peer.Write(DispatchHeader(2, (size_t{1} << 30) + 1), 0);
              }),
              HasSubstr("wanted at most 1073741824 bytes"));
}

TEST(TcpLinks, AFrameThatIsCutShortIsNoFrame) {
  LinkRig rig(Mover::kTcpWithoutMac);
  auto peer = std::make_unique<RawTcpRouter>(rig);
  peer->Write(DispatchHeader(1, 1000), 999);
  shutdown(peer->socket(), SHUT_WR);
  const auto frame = WaitNext(peer->worker(), rig.worker_bell(), In(kPatience));
  EXPECT_EQ(frame.status().code(), absl::StatusCode::kUnavailable) << frame.status();
}

TEST(TcpLinks, AWorkerThatDoesNotAnswerCostsTheDeadline) {
  auto listening = ListenTcp("127.0.0.1", 0, 0);
  ASSERT_TRUE(listening.ok());
  const auto at = TcpAddress::OfSocket(listening->get());
  LinkRig rig(Mover::kTcp);
  const absl::Status status =
      rig.connector()
          .Connect({at->ToString()}, rig.GoodRequest(), rig.router_bell(),
                   In(std::chrono::milliseconds(60)))
          .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr(at->ToString()));
  EXPECT_THAT(std::string(status.message()), HasSubstr("no answer in time"));
}

TEST(TcpLinks, ListensWhereItIsToldTo) {
  InProcessNetwork unused;
  const auto bell = NewBell();
  const auto listen = [&](const TcpOptions& options) {
    return TcpLinkMaker(options).Listen({}, *bell, [](auto, const Hello&) {});
  };
  TcpOptions options;
  auto first = listen(options);
  ASSERT_TRUE(first.ok()) << first.status();
  const auto at = TcpAddress::Parse((*first)->addresses()[0]);
  ASSERT_TRUE(at.ok());
  // A range of one port that is taken, then one with a neighbour.
  options.first_port = options.last_port = at->port();
  const absl::Status taken = listen(options).status();
  EXPECT_EQ(taken.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(taken.message()), HasSubstr(at->HostPort()));
  options.last_port = std::min(65535, at->port() + 20);
  const auto second = listen(options);
  ASSERT_TRUE(second.ok()) << second.status();
  const int port = TcpAddress::Parse((*second)->addresses()[0])->port();
  EXPECT_GT(port, options.first_port);
  EXPECT_LE(port, options.last_port);

  options = TcpOptions{};
  options.host = "0.0.0.0";
  EXPECT_EQ(listen(options).status().code(), absl::StatusCode::kInvalidArgument);
  options.advertised_host = "::1";
  const auto advertised = listen(options);
  ASSERT_TRUE(advertised.ok()) << advertised.status();
  EXPECT_THAT((*advertised)->addresses()[0], testing::StartsWith("tcp:[::1]:"));
  options.host = "not an address";
  EXPECT_EQ(listen(options).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(TcpAddress, RoundTripsAndRefusesWhatIsNone) {
  for (const char* text : {"tcp:10.0.0.2:7001", "tcp:[fd00::2]:1", "tcp:[::1]:65535"}) {
    const auto address = TcpAddress::Parse(text);
    ASSERT_TRUE(address.ok()) << address.status();
    EXPECT_EQ(address->ToString(), text);
  }
  for (const std::string text :
       {"", "tcp:", "tcp::", "tcp::1", "tcp:10.0.0.2", "tcp:10.0.0.2:", "tcp:10.0.0.2:0",
        "tcp:10.0.0.2:65536", "tcp:10.0.0.2:-1", "tcp:10.0.0.2: 1", "tcp:localhost:7001",
        "tcp:fd00::2:7001", "tcp:[]:1", "tcp:[10.0.0.2:1", "tcp:10.0.0.2:1x",
        "tcp:10.0.0.2\n:1", "shm:10.0.0.2:1", "tcp:[::1%none9]:1"}) {
    const auto address = TcpAddress::Parse(text);
    EXPECT_EQ(address.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_EQ(std::string(address.status().message()).find('\n'), std::string::npos);
  }
  EXPECT_EQ(*AddressOfInterface("lo", AF_INET), "127.0.0.1");
  EXPECT_FALSE(AddressOfInterface("none9", AF_INET).ok());
}

// --- Shared memory: a peer with the key that then writes what it likes.

// Hello and proof, the latter with these descriptors.
void ProveOver(int socket, const LinkRequest& request, int lane, int bell) {
  RouterHandshake handshake(request, FrameIntegrity::kNone, FreshNonce());
  EXPECT_TRUE(SendMessage(socket, handshake.hello(), -1, -1).ok());
  HelloAnswerBytes answer{};
  pollfd waiting{socket, POLLIN, 0};
  EXPECT_EQ(poll(&waiting, 1, 60'000), 1);
  const auto received = ReceiveMessage(socket, answer);
  EXPECT_TRUE(received.ok() && received->has_value()) << received.status();
  const auto proof = handshake.Prove(answer);
  EXPECT_TRUE(proof.ok()) << proof.status();
  if (!proof.ok()) return;
  EXPECT_TRUE(SendMessage(socket, *proof, lane, bell).ok());
}

class RawSharedMemoryRouter {
 public:
  explicit RawSharedMemoryRouter(LinkRig& rig) : socket_(RawConnection(rig)), bell_(NewBell()) {
    auto out = LaneWriter::Create();
    EXPECT_TRUE(out.ok());
    out_ = *std::move(out);
    const LinkRequest request = rig.GoodRequest();
    ProveOver(socket_.get(), request, out_.fd(), bell_->fd());
    link_ = request.link;
    worker_ = rig.Accepted(request.link);
  }
  void Publish(FrameHeader header, size_t bytes) {
    EXPECT_TRUE(out_.Reserve(bytes, 0).ok());
    out_.Publish(header);
  }
  // A word of the lane's control part.
  std::atomic<uint64_t>& Word(size_t at) {
    void* map = mmap(nullptr, kLaneControlBytes, PROT_READ | PROT_WRITE, MAP_SHARED, out_.fd(), 0);
    return *reinterpret_cast<std::atomic<uint64_t>*>(static_cast<uint8_t*>(map) + at);
  }
  FrameLink& worker() { return *worker_; }
  LinkId link() const { return link_; }

 private:
  UniqueFd socket_;
  std::unique_ptr<Bell> bell_;
  LaneWriter out_;
  LinkId link_;
  std::unique_ptr<FrameLink> worker_;
};

TEST(SharedMemoryLinks, FramesOfAnotherLifeAreVoid) {
  LinkRig rig(Mover::kSharedMemory);
  RawSharedMemoryRouter peer(rig);
  FrameHeader header = DispatchHeader(1, 10);
  header.link = LinkId(peer.link().value() + 1);
  peer.Publish(header, 10);
  header.link = peer.link();
  header.sequence = 2;
  peer.Publish(header, 10);
  const auto frame = peer.worker().Next();
  ASSERT_TRUE(frame.ok() && frame->has_value()) << frame.status();
  EXPECT_EQ((*frame)->header.sequence, 2u);
}

TEST(SharedMemoryLinks, AWildCountEndsTheLinkAndNoLoop) {
  for (const uint64_t wild : {uint64_t{kLaneSlots} + 2, uint64_t{1} << 63, ~uint64_t{0}}) {
    LinkRig rig(Mover::kSharedMemory);
    RawSharedMemoryRouter peer(rig);
    FrameHeader header = DispatchHeader(1, 10);
    header.link = peer.link();
    peer.Publish(header, 10);
    ASSERT_TRUE(peer.worker().Next().ok());
    peer.Word(0).store(wild);
    EXPECT_EQ(peer.worker().Next().status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(peer.worker().Next().status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(peer.worker().Reserve(1).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST(SharedMemoryLinks, AWildReleaseEndsTheLink) {
  LinkRig rig(Mover::kSharedMemory);
  RawSharedMemoryRouter peer(rig);
  peer.Word(64).store(1);  // nothing was sent yet
  EXPECT_EQ(peer.worker().Reserve(1).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(SharedMemoryLinks, AProofWithOtherDescriptorsMakesNoLink) {
  LinkRig rig(Mover::kSharedMemory);
  const UniqueFd no_memory(eventfd(0, EFD_CLOEXEC));
  const UniqueFd socket = RawConnection(rig);
  ProveOver(socket.get(), rig.GoodRequest(), no_memory.get(), no_memory.get());
  EXPECT_EQ(ReadToTheEnd(socket.get()), "");
  const UniqueFd bare = RawConnection(rig);
  ProveOver(bare.get(), rig.GoodRequest(), -1, -1);
  EXPECT_EQ(ReadToTheEnd(bare.get()), "");
  EXPECT_TRUE(rig.NewPair().worker != nullptr);
}

TEST(SharedMemoryAddress, RoundTripsAndRefusesWhatIsNone) {
  const auto address = SharedMemoryAddress::New();
  ASSERT_TRUE(address.ok()) << address.status();
  EXPECT_NE(address->host, "");
  const auto parsed = SharedMemoryAddress::Parse(address->ToString());
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->host, address->host);
  EXPECT_EQ(parsed->name, address->name);
  EXPECT_NE(SharedMemoryAddress::New()->name, address->name);
  for (const char* text :
       {"", "shm:", "shm::", "shm:host:", "shm:host:xyz",
        "tcp:host:0123456789abcdef0123456789abcdef", "shm:host:0123456789ABCDEF0123456789abcdef",
        "shm:host:0123456789abcdef0123456789abcdef0"}) {
    EXPECT_EQ(SharedMemoryAddress::Parse(text).status().code(), absl::StatusCode::kInvalidArgument)
        << text;
  }
}

}  // namespace
}  // namespace sheaf
