// What a decode layer's exchange costs beside the machine's own floor, in one run.
//
//   exchange_bench [--transport=shm|tcp] [--workers=2] [--bytes=10400] [--reply_bytes=20480]
//                  [--rounds=3000] [--pin=1] [--mac=1]
//
// The layer: the router sends one dispatch to each worker process and waits for all combines, over
// the real links, without compute. The floor: the same star over bare shared memory and futexes
// (shm) or over bare blocking TCP sockets on loopback (tcp): no headers, no proofs, no hello.
// Rounds of the two alternate in blocks, so that both see the same minute of the machine. The
// router has the first core and the workers share the others (--pin=0: as the kernel likes; a
// wake-up on one's own core is several times cheaper than on another, and the two stars then differ
// by chance). Prints median and p99 in us, and the ratio of the medians.

#include <linux/futex.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "exchange/shared_memory/shared_memory_links.h"
#include "exchange/tcp/tcp_links.h"

namespace sheaf {
namespace {

constexpr int kBlocks = 10;
constexpr int kMaxWorkers = 60;
constexpr size_t kMaxBytes = 4 << 20;
constexpr size_t kVectorBytes = 5120 * sizeof(float);

struct Settings {
  int workers = 2;
  size_t bytes = 40 * 260;  // one token of hidden 5120: planes and scales
  size_t reply_bytes = 5120 * 4;
  int rounds = 3000;
  bool pin = true;
  bool tcp = false;
  bool mac = true;  // over TCP: frames are authenticated
  // Vectors of at most kVectorBytes that the reply is made of.
  size_t pairs() const { return (reply_bytes + kVectorBytes - 1) / kVectorBytes; }
};

std::unique_ptr<LinkMaker> NewMaker(const Settings& settings) {
  TcpOptions tcp;
  tcp.integrity = settings.mac ? FrameIntegrity::kMac : FrameIntegrity::kNone;
  if (settings.tcp) return std::make_unique<TcpLinkMaker>(tcp);
  return std::make_unique<SharedMemoryLinkMaker>();
}

// role 0 = the router, 1.. = workers.
void Pin(const Settings& settings, int role) {
  cpu_set_t allowed;
  if (!settings.pin || sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return;
  std::vector<int> cores;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &allowed)) cores.push_back(core);
  }
  if (cores.size() < 2) return;
  const size_t others = cores.size() - 1;
  const int core = role == 0 ? cores[0] : cores[1 + static_cast<size_t>(role - 1) % others];
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(core, &one);
  sched_setaffinity(0, sizeof(one), &one);
}

// --- The floor.

struct alignas(4096) SharedSlot {
  std::atomic<uint32_t> request{0};
  alignas(64) std::atomic<uint32_t> reply{0};
  alignas(64) uint8_t down[kMaxBytes];
  uint8_t up[kMaxBytes];
};

void FutexWait(std::atomic<uint32_t>& word, uint32_t seen) {
  while (word.load(std::memory_order_acquire) == seen) {
    syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAIT, seen, nullptr, nullptr, 0);
  }
}

void FutexPost(std::atomic<uint32_t>& word) {
  word.fetch_add(1, std::memory_order_release);
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAKE, 1, nullptr, nullptr, 0);
}

void ReadAll(int socket, uint8_t* to, size_t bytes) {
  while (bytes > 0) {
    const ssize_t got = recv(socket, to, bytes, 0);
    if (got <= 0) _exit(0);  // the other end is done
    to += got;
    bytes -= static_cast<size_t>(got);
  }
}

void WriteAll(int socket, const uint8_t* from, size_t bytes) {
  while (bytes > 0) {
    const ssize_t sent = send(socket, from, bytes, MSG_NOSIGNAL);
    if (sent <= 0) _exit(0);
    from += sent;
    bytes -= static_cast<size_t>(sent);
  }
}

// Two ends of a connection over loopback.
struct SocketPair {
  UniqueFd router;
  UniqueFd worker;
};
SocketPair LoopbackPair() {
  UniqueFd listening(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t bytes = sizeof(address);
  bind(listening.get(), reinterpret_cast<sockaddr*>(&address), bytes);
  listen(listening.get(), 1);
  getsockname(listening.get(), reinterpret_cast<sockaddr*>(&address), &bytes);
  SocketPair pair{UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), UniqueFd()};
  if (connect(pair.router.get(), reinterpret_cast<sockaddr*>(&address), bytes) != 0) _exit(9);
  pair.worker = UniqueFd(accept4(listening.get(), nullptr, nullptr, SOCK_CLOEXEC));
  const int one = 1;
  setsockopt(pair.router.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
  setsockopt(pair.worker.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
  return pair;
}

[[noreturn]] void RunFloorWorker(SharedSlot& slot, int socket, const Settings& settings) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  std::vector<uint8_t> memory(std::max(settings.bytes, settings.reply_bytes));
  for (uint32_t seen = 0;; ++seen) {
    if (settings.tcp) {
      ReadAll(socket, memory.data(), settings.bytes);
      WriteAll(socket, memory.data(), settings.reply_bytes);
      continue;
    }
    FutexWait(slot.request, seen);
    std::memcpy(memory.data(), slot.down, settings.bytes);
    std::memcpy(slot.up, memory.data(), settings.reply_bytes);
    FutexPost(slot.reply);
  }
}

// --- The exchange.

struct AddressBoard {  // shared memory that stands in for the control plane
  std::atomic<uint32_t> ready[kMaxWorkers];
  char address[kMaxWorkers][256];
};

LinkIdentity Identity() { return {1, InstanceId(2), LinkSecret{3}}; }

[[noreturn]] void RunLinkWorker(AddressBoard& board, int self, const Settings& settings) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  auto bell = Bell::Create();
  if (!bell.ok()) _exit(3);
  std::mutex mutex;
  std::unique_ptr<FrameLink> accepted;
  LinkListenerOptions options;
  options.self = Identity();
  const auto maker = NewMaker(settings);
  auto listener =
      maker->Listen(options, **bell, [&](std::unique_ptr<FrameLink> link, const Hello&) {
        {
          const std::lock_guard lock(mutex);
          accepted = std::move(link);
        }
        (*bell)->Ring();
      });
  if (!listener.ok()) _exit(4);
  std::strncpy(board.address[self], (*listener)->addresses()[0].c_str(), 255);
  FutexPost(board.ready[self]);
  std::unique_ptr<FrameLink> link;
  for (;;) {
    const uint32_t seen = (*bell)->rings();
    if (link == nullptr) {
      const std::lock_guard lock(mutex);
      link = std::move(accepted);
    }
    if (link != nullptr) {
      const auto frame = link->Next();
      if (!frame.ok()) _exit(0);
      if (frame->has_value()) {
        const auto reply = link->Reserve(settings.reply_bytes);
        if (!reply.ok()) _exit(6);
        std::memset(reply->data(), 1, settings.reply_bytes);
        if (!link->Send(CombineHeaderFor((*frame)->header)).ok()) _exit(7);
        link->Release();
        continue;
      }
    }
    (*bell)->WaitPast(seen, std::chrono::steady_clock::now() + std::chrono::seconds(30));
  }
}

struct Figures {
  std::vector<double> us;
  double At(double share) {
    std::sort(us.begin(), us.end());
    return us[std::min(us.size() - 1, static_cast<size_t>(share * static_cast<double>(us.size())))];
  }
};

template <typename Round>
void Measure(int rounds, Figures& figures, const Round& round) {
  for (int i = 0; i < rounds; ++i) {
    const auto start = std::chrono::steady_clock::now();
    round();
    figures.us.push_back(
        std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start)
            .count());
  }
}

// The router's end of the star.
class Router {
 public:
  Router(const Settings& settings, AddressBoard& board) : settings_(settings) {
    auto bell = Bell::Create();
    status_ = bell.status();
    if (!bell.ok()) return;
    bell_ = *std::move(bell);
    maker_ = NewMaker(settings);
    const auto connector = maker_->NewConnector();
    for (int worker = 0; worker < settings.workers && status_.ok(); ++worker) {
      FutexWait(board.ready[worker], 0);
      const LinkIdentity peer = Identity();
      auto link = connector->Connect(
          {board.address[worker]},
          {peer.model_digest, peer.instance, InstanceId(4),
           LinkId(static_cast<uint64_t>(worker) + 1),
           LinkKeyFor(peer.secret, peer.instance, InstanceId(4))},
          *bell_, std::chrono::steady_clock::now() + std::chrono::seconds(20));
      status_ = link.status();
      if (link.ok()) links_.push_back(*std::move(link));
    }
  }

  void Layer(const std::vector<uint8_t>& payload) {
    if (!status_.ok()) return;
    FrameHeader header;
    header.element = FrameElement::kInt16Groups;
    header.answer = FrameElement::kFloat32;
    header.sequence = ++sequence_;
    header.pairs = static_cast<uint32_t>(settings_.pairs());
    header.hidden = static_cast<uint32_t>(settings_.reply_bytes / 4 / settings_.pairs());
    header.tokens = header.experts = 1;
    header.payload_bytes = settings_.bytes;
    for (auto& link : links_) {
      const auto out = link->Reserve(settings_.bytes);
      if (!out.ok()) return Fail(out.status());
      std::memcpy(out->data(), payload.data(), settings_.bytes);
      if (absl::Status status = link->Send(header); !status.ok()) return Fail(status);
    }
    std::vector<bool> arrived(links_.size());
    for (size_t missing = links_.size(); missing > 0;) {
      const uint32_t seen = bell_->rings();
      bool moved = false;
      for (size_t i = 0; i < links_.size(); ++i) {
        if (arrived[i]) continue;
        const auto frame = links_[i]->Next();
        if (!frame.ok()) return Fail(frame.status());
        if (!frame->has_value()) continue;
        arrived[i] = moved = true;
        --missing;
        sum_ += (*frame)->payload[0];
        links_[i]->Release();
      }
      if (!moved)
        bell_->WaitPast(seen, std::chrono::steady_clock::now() + std::chrono::seconds(10));
    }
  }

  const absl::Status& status() const { return status_; }
  std::string path() const { return links_.empty() ? "none" : links_[0]->path(); }

 private:
  void Fail(const absl::Status& status) { status_ = status; }

  const Settings settings_;
  absl::Status status_;
  std::unique_ptr<Bell> bell_;
  std::unique_ptr<LinkMaker> maker_;
  std::vector<std::unique_ptr<FrameLink>> links_;
  uint64_t sequence_ = 0;
  uint64_t sum_ = 0;
};

int Run(const Settings& settings) {
  std::vector<pid_t> children;
  const auto share = [](size_t bytes) {
    return mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  };
  const auto workers = static_cast<size_t>(settings.workers);
  auto* slots = static_cast<SharedSlot*>(share(sizeof(SharedSlot) * workers));
  auto* board = static_cast<AddressBoard*>(share(sizeof(AddressBoard)));
  std::vector<SocketPair> sockets;
  for (size_t worker = 0; worker < workers; ++worker) {
    sockets.push_back(LoopbackPair());
    children.push_back(fork());
    if (children.back() == 0) {
      Pin(settings, static_cast<int>(worker) + 1);
      RunFloorWorker(slots[worker], sockets[worker].worker.get(), settings);
    }
    children.push_back(fork());
    if (children.back() == 0) {
      Pin(settings, static_cast<int>(worker) + 1);
      RunLinkWorker(*board, static_cast<int>(worker), settings);
    }
  }

  Pin(settings, 0);
  Router router(settings, *board);
  const std::vector<uint8_t> payload(settings.bytes, 2);
  std::vector<uint8_t> back(settings.reply_bytes);
  uint32_t round = 0;
  const auto layer = [&] { router.Layer(payload); };
  const auto floor = [&] {
    for (size_t worker = 0; worker < workers; ++worker) {
      if (settings.tcp) {
        WriteAll(sockets[worker].router.get(), payload.data(), settings.bytes);
        continue;
      }
      std::memcpy(slots[worker].down, payload.data(), settings.bytes);
      FutexPost(slots[worker].request);
    }
    for (size_t worker = 0; worker < workers; ++worker) {
      if (settings.tcp) {
        ReadAll(sockets[worker].router.get(), back.data(), settings.reply_bytes);
        continue;
      }
      FutexWait(slots[worker].reply, round);
      std::memcpy(back.data(), slots[worker].up, settings.reply_bytes);
    }
    ++round;
  };

  Figures of_floor, of_layer, ignored;
  Measure(200, ignored, floor);
  Measure(200, ignored, layer);
  for (int block = 0; block < kBlocks && router.status().ok(); ++block) {
    Measure(settings.rounds / kBlocks, of_floor, floor);
    Measure(settings.rounds / kBlocks, of_layer, layer);
  }
  std::printf("1 router + %d workers, %zu bytes out, %zu back, path %s\n", settings.workers,
              settings.bytes, settings.reply_bytes, router.path().c_str());
  if (router.status().ok()) {
    std::printf("%s median %7.1f us   p99 %7.1f us\n",
                settings.tcp ? "bare TCP, blocking     " : "shared memory + futex  ",
                of_floor.At(0.5), of_floor.At(0.99));
    std::printf("dispatch + combine      median %7.1f us   p99 %7.1f us\n", of_layer.At(0.5),
                of_layer.At(0.99));
    std::printf("ratio of the medians    %.2f\n", of_layer.At(0.5) / of_floor.At(0.5));
    std::printf("left out: computing, filling and adding up vectors, connecting; the floor has no "
                "headers\n");
  } else {
    std::printf("failed: %s\n", router.status().ToString().c_str());
  }
  for (const pid_t child : children) {
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
  }
  return router.status().ok() ? 0 : 1;
}

}  // namespace
}  // namespace sheaf

int main(int argc, char** argv) {
  sheaf::Settings settings;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const auto value = [&](const char* name) -> const char* {
      return argument.rfind(name, 0) == 0 ? argument.c_str() + std::strlen(name) : nullptr;
    };
    if (const char* text = value("--workers="))
      settings.workers = std::clamp(std::atoi(text), 1, sheaf::kMaxWorkers);
    if (const char* text = value("--bytes="))
      settings.bytes = std::clamp<size_t>(std::strtoull(text, nullptr, 10), 4, sheaf::kMaxBytes);
    if (const char* text = value("--reply_bytes=")) {
      settings.reply_bytes =
          std::clamp<size_t>(std::strtoull(text, nullptr, 10), 4, sheaf::kMaxBytes);
    }
    if (const char* text = value("--transport=")) settings.tcp = std::string(text) == "tcp";
    if (const char* text = value("--pin=")) settings.pin = std::atoi(text) != 0;
    if (const char* text = value("--mac=")) settings.mac = std::atoi(text) != 0;
    if (const char* text = value("--rounds=")) settings.rounds = std::max(10, std::atoi(text));
  }
  settings.reply_bytes -= settings.reply_bytes % (4 * settings.pairs());
  return sheaf::Run(settings);
}
