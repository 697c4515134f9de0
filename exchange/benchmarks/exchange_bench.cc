// What a decode layer's exchange costs beside the machine's own floor, in one run.
//
//   exchange_bench [--transport=shm|ucx] [--workers=2] [--bytes=10400] [--reply_bytes=N]
//                  [--rounds=3000] [--pin=1]
//
// The layer: the router sends one dispatch to each worker process and waits for all combines, over
// the real links, without compute. The floor: the same star over bare shared memory and futexes.
// Rounds of the two alternate in blocks, so that both see the same minute of the machine. The
// router has the first core and the workers share the others (--pin=0: as the kernel likes; a
// wake-up on one's own core is several times cheaper than on another, and the two stars then differ
// by chance). Prints median and p99 in us, and the ratio of the medians.

#include <linux/futex.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
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
#include <string>
#include <vector>

#include "exchange/byte_buffer.h"
#include "exchange/shared_memory/shared_memory_transport.h"
#include "exchange/ucx/ucx_transport.h"

namespace sheaf {
namespace {

constexpr int kBlocks = 10;

struct Settings {
  int workers = 2;
  size_t bytes = 40 * 260;  // one token of hidden 5120: planes and scales
  size_t reply_bytes = 0;   // 0 = bytes
  int rounds = 3000;
  bool pin = true;
  bool ucx = false;
};

absl::StatusOr<std::unique_ptr<Transport>> NewTransport(const Settings& settings) {
  if (settings.ucx) return UcxTransport::Create();
  return std::make_unique<SharedMemoryTransport>();
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
  alignas(64) uint8_t down[1 << 20];
  uint8_t up[1 << 20];
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

[[noreturn]] void RunFloorWorker(SharedSlot& slot, const Settings& settings) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  std::vector<uint8_t> memory(std::max(settings.bytes, settings.reply_bytes));
  for (uint32_t seen = 0;; ++seen) {
    FutexWait(slot.request, seen);
    std::memcpy(memory.data(), slot.down, settings.bytes);
    std::memcpy(slot.up, memory.data(), settings.reply_bytes);
    FutexPost(slot.reply);
  }
}

// --- The exchange.

struct AddressBoard {  // shared memory that stands in for the control plane
  std::atomic<uint32_t> worker_ready[64];
  std::atomic<uint32_t> router_ready;
  uint32_t router_size, worker_size[64];
  char router[65536], worker[64][65536];
};

[[noreturn]] void RunLinkWorker(AddressBoard& board, int self, const Settings& settings) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  auto transport = NewTransport(settings);
  if (!transport.ok()) _exit(3);
  auto link = (*transport)->NewWorkerLink(Epoch(1), WorkerId(self));
  if (!link.ok()) _exit(4);
  const std::string& address = (*link)->address();
  board.worker_size[self] = static_cast<uint32_t>(address.size());
  std::memcpy(board.worker[self], address.data(), address.size());
  FutexPost(board.worker_ready[self]);
  FutexWait(board.router_ready, 0);
  if (!(*link)->Connect(std::string(board.router, board.router_size)).ok()) _exit(5);
  for (;;) {
    const auto dispatch =
        (*link)->Receive(std::chrono::steady_clock::now() + std::chrono::seconds(30));
    if (!dispatch.ok()) _exit(0);
    const auto reply = (*link)->ReplyBuffer(settings.reply_bytes);
    if (!reply.ok()) _exit(6);
    std::memset(reply->data(), 1, settings.reply_bytes);
    if (!(*link)->Reply(CombineHeaderFor(dispatch->header, WorkerId(self))).ok()) _exit(7);
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

int Run(const Settings& settings) {
  std::vector<pid_t> children;
  const auto share = [](size_t bytes) {
    return mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  };
  auto* slots =
      static_cast<SharedSlot*>(share(sizeof(SharedSlot) * static_cast<size_t>(settings.workers)));
  auto* board = static_cast<AddressBoard*>(share(sizeof(AddressBoard)));
  for (int worker = 0; worker < settings.workers; ++worker) {
    children.push_back(fork());
    if (children.back() == 0) {
      Pin(settings, worker + 1);
      RunFloorWorker(slots[worker], settings);
    }
    children.push_back(fork());
    if (children.back() == 0) {
      Pin(settings, worker + 1);
      RunLinkWorker(*board, worker, settings);
    }
  }

  Pin(settings, 0);
  auto transport = NewTransport(settings);
  auto link = (*transport)->NewRouterLink(Epoch(1));
  if (!transport.ok() || !link.ok()) return 1;
  const std::string& address = (*link)->address();
  board->router_size = static_cast<uint32_t>(address.size());
  std::memcpy(board->router, address.data(), address.size());
  std::vector<LinkPeer> peers;
  for (int worker = 0; worker < settings.workers; ++worker) {
    FutexWait(board->worker_ready[worker], 0);
    peers.push_back(
        {WorkerId(worker), std::string(board->worker[worker], board->worker_size[worker])});
  }
  board->router_ready = 1;
  syscall(SYS_futex, &board->router_ready, FUTEX_WAKE, 1 << 20, nullptr, nullptr, 0);
  absl::Status status =
      (*link)->Connect(peers, std::chrono::steady_clock::now() + std::chrono::seconds(20));

  std::vector<ByteBuffer> combines(static_cast<size_t>(settings.workers));
  ByteBuffer payload;
  std::memset(payload.Resize(settings.bytes), 2, settings.bytes);
  std::vector<Exchange> exchanges;
  for (int worker = 0; worker < settings.workers; ++worker) {
    Exchange& exchange = exchanges.emplace_back();
    exchange.worker = WorkerId(worker);
    exchange.dispatch.kind = FrameKind::kDispatch;
    exchange.dispatch.type = FrameType::kInt16Groups;
    exchange.dispatch.epoch = Epoch(1);
    exchange.dispatch.hidden = static_cast<uint32_t>(settings.reply_bytes / 4);
    exchange.dispatch.tokens = exchange.dispatch.pairs = exchange.dispatch.experts = 1;
    exchange.dispatch.payload_bytes = settings.bytes;
    exchange.payload = payload.bytes();
    combines[static_cast<size_t>(worker)].Resize(settings.reply_bytes);
    exchange.combine = combines[static_cast<size_t>(worker)].bytes();
  }
  uint64_t step = 0;
  const auto layer = [&] {
    if (!status.ok()) return;
    ++step;
    for (Exchange& exchange : exchanges) exchange.dispatch.step = StepId(step);
    status = (*link)->Post(exchanges);
    if (status.ok())
      status = (*link)->Wait(std::chrono::steady_clock::now() + std::chrono::seconds(10));
  };
  std::vector<uint8_t> back(settings.reply_bytes);
  uint32_t round = 0;
  const auto floor = [&] {
    for (int worker = 0; worker < settings.workers; ++worker) {
      std::memcpy(slots[worker].down, payload.data(), settings.bytes);
      FutexPost(slots[worker].request);
    }
    for (int worker = 0; worker < settings.workers; ++worker) {
      FutexWait(slots[worker].reply, round);
      std::memcpy(back.data(), slots[worker].up, settings.reply_bytes);
    }
    ++round;
  };

  Figures of_floor, of_layer, ignored;
  Measure(200, ignored, floor);
  Measure(200, ignored, layer);
  for (int block = 0; block < kBlocks && status.ok(); ++block) {
    Measure(settings.rounds / kBlocks, of_floor, floor);
    Measure(settings.rounds / kBlocks, of_layer, layer);
  }
  std::printf("1 router + %d workers, %zu bytes out, %zu back, path %s\n", settings.workers,
              settings.bytes, settings.reply_bytes, (*link)->PathTo(WorkerId(0)).c_str());
  if (status.ok()) {
    std::printf("shared memory + futex   median %7.1f us   p99 %7.1f us\n", of_floor.At(0.5),
                of_floor.At(0.99));
    std::printf("dispatch + combine      median %7.1f us   p99 %7.1f us\n", of_layer.At(0.5),
                of_layer.At(0.99));
    std::printf("ratio of the medians    %.2f\n", of_layer.At(0.5) / of_floor.At(0.5));
  } else {
    std::printf("failed: %s\n", status.ToString().c_str());
  }
  for (const pid_t child : children) {
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
  }
  return status.ok() ? 0 : 1;
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
      settings.workers = std::clamp(std::atoi(text), 1, 60);
    if (const char* text = value("--bytes="))
      settings.bytes = std::clamp<size_t>(std::strtoull(text, nullptr, 10), 4, 1 << 20);
    if (const char* text = value("--reply_bytes="))
      settings.reply_bytes = std::clamp<size_t>(std::strtoull(text, nullptr, 10), 4, 1 << 20);
    if (const char* text = value("--transport=")) settings.ucx = std::string(text) == "ucx";
    if (const char* text = value("--pin=")) settings.pin = std::atoi(text) != 0;
    if (const char* text = value("--rounds=")) settings.rounds = std::max(10, std::atoi(text));
  }
  if (settings.reply_bytes == 0) settings.reply_bytes = settings.bytes;
  settings.reply_bytes = settings.reply_bytes / 4 * 4;
  return sheaf::Run(settings);
}
