// What a layer's gathers among attention ranks cost beside the machine's own floor, in one run.
//
//   gather_bench [--ranks=2] [--rows=1,8,512] [--layers=400] [--transport=shm|tcp] [--pin=1]
//                [--host=ADDRESS] [--ranks-netns=/run/netns/NAME]
//                [--hidden=5120] [--attended=12288] [--inner=1536] [--experts=160]
//
// --host and --ranks-netns, of tcp: where rank 0 listens, where the others are.
//
// The layer: the four gathers of a layer with experts (router/attention/rank_rows.h), each rank a
// process with an even part of every width, over the real links and without compute: attended rows
// (int16 groups), o_proj's outputs (float32), gate's logits with the shared expert's inner rows,
// the routed sum with its outputs. Two floors, both the same bytes by memcpy into bare shared
// memory and one flag a rank, no headers, no plan, no hello: an exchange (all ranks at once) and a
// round trip (the others answer rank 0). All spin, all read a byte of every cache line that came.
// Blocks of them alternate, so that all see the same minute of the machine. Prints medians of a
// layer in us as rank 0 sees them, and the ratios.

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/mutex.h"
#include "base/clock.h"
#include "base/unique_fd.h"
#include "exchange/gather/link_ranks.h"
#include "exchange/shared_memory/shared_memory_links.h"
#include "exchange/tcp/tcp_links.h"

namespace sheaf {
namespace {

constexpr int kMaxRanks = 16;
constexpr int kBlocks = 10;
constexpr int kGathers = 4;
constexpr size_t kGroupBytes = 260;  // of 128 values: planes and scale
constexpr uint32_t kModel = 7;

struct Settings {
  int ranks = 2;
  std::vector<int> rows = {1, 8, 512};
  int layers = 400;
  bool tcp = false;
  bool pin = true;
  std::string host = "127.0.0.1";
  std::string ranks_netns;
  size_t hidden = 5120, attended = 12288, inner = 1536, experts = 160;

  // Bytes of that rank's part in gather g of a layer.
  size_t Bytes(int gather, int rank, size_t num_rows) const {
    const auto floats = [&](size_t width) { return num_rows * 4 * width / size_t(ranks); };
    const auto groups = [&](size_t width) {
      return num_rows * kGroupBytes * width / 128 / size_t(ranks);
    };
    switch (gather) {
      case 0:
        return groups(attended);
      case 1:
        return floats(hidden);
      case 2:
        return floats(experts) + groups(inner);
      default:
        return floats(hidden) + (rank == 0 ? num_rows * 4 * hidden : 0);
    }
  }
  size_t MaxBytes() const {
    size_t most = 0;
    for (const int num_rows : rows) {
      for (int gather = 0; gather < kGathers; ++gather)
        most = std::max(most, Bytes(gather, 0, size_t(num_rows)));
    }
    return most;
  }
};

// Shared by all processes.
struct Board {
  alignas(64) std::atomic<uint64_t> floor[kMaxRanks];  // gathers whose part lies in the slot
  std::atomic<int> listening{0};
  char address[256];
};

void Pin(const Settings& settings, int rank) {
  cpu_set_t allowed;
  if (!settings.pin || sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return;
  std::vector<int> cores;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &allowed)) cores.push_back(core);
  }
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(cores[size_t(rank) % cores.size()], &one);
  sched_setaffinity(0, sizeof(one), &one);
}

uint64_t Touch(std::span<const uint8_t> bytes) {
  uint64_t sum = 0;
  for (size_t i = 0; i < bytes.size(); i += 64) sum += bytes[i];
  return sum;
}

// One rank's end of the floor. Two slots a rank in turn, as nobody is more than one gather ahead.
class Floor {
 public:
  Floor(const Settings& settings, Board& board, uint8_t* memory, int rank)
      : settings_(settings),
        board_(board),
        memory_(memory),
        slot_bytes_(settings.MaxBytes()),
        rank_(rank) {}

  uint64_t Gather(int gather, size_t num_rows, const std::vector<uint8_t>& own, bool round_trip) {
    ++count_;
    if (round_trip && rank_ != 0) Await(0);
    std::memcpy(Slot(rank_), own.data(), settings_.Bytes(gather, rank_, num_rows));
    board_.floor[rank_].store(count_, std::memory_order_release);
    uint64_t sum = 0;
    for (int rank = 0; rank < settings_.ranks; ++rank) {
      if (rank == rank_) continue;
      Await(rank);
      sum += Touch({Slot(rank), settings_.Bytes(gather, rank, num_rows)});
    }
    return sum;
  }

 private:
  void Await(int rank) const {
    while (board_.floor[rank].load(std::memory_order_acquire) < count_) {
      if (settings_.ranks > 2) sched_yield();  // there may be more ranks than cores
    }
  }
  uint8_t* Slot(int rank) const { return memory_ + (size_t(rank) * 2 + count_ % 2) * slot_bytes_; }

  const Settings& settings_;
  Board& board_;
  uint8_t* const memory_;
  const size_t slot_bytes_;
  const int rank_;
  uint64_t count_ = 0;
};

std::unique_ptr<LinkMaker> NewMaker(const Settings& settings) {
  TcpOptions tcp;
  tcp.host = settings.host;
  if (settings.tcp) return std::make_unique<TcpLinkMaker>(tcp);
  return std::make_unique<SharedMemoryLinkMaker>();
}

LinkIdentity Identity() { return {1, InstanceId(2), LinkSecret{3}}; }

void Must(const absl::Status& status, const char* what) {
  if (status.ok()) return;
  std::fprintf(stderr, "gather_bench: %s: %s\n", what, status.ToString().c_str());
  _exit(1);
}

// Microseconds of layers of one size.
struct Times {
  std::vector<double> exchange, round_trip, links;
};

// All kinds of layers in turn, as every rank runs them.
uint64_t RunBlocks(const Settings& settings, RankGroup& group, Floor& floor,
                   const std::function<void(int block, int num_rows)>& begin,
                   std::vector<Times>& times) {
  const std::vector<uint8_t> own(settings.MaxBytes(), uint8_t(group.rank() + 1));
  uint64_t sum = 0;
  const auto timed = [](std::vector<double>& out, const auto& layer) {
    const auto start = std::chrono::steady_clock::now();
    layer();
    out.push_back(
        std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start)
            .count());
  };
  int block_number = 0;
  for (size_t which = 0; which < settings.rows.size(); ++which) {
    const auto num_rows = size_t(settings.rows[which]);
    for (int block = 0; block < kBlocks; ++block) {
      for (const bool round_trip : {false, true}) {
        for (int layer = 0; layer < settings.layers / kBlocks; ++layer) {
          timed(round_trip ? times[which].round_trip : times[which].exchange, [&] {
            for (int g = 0; g < kGathers; ++g) sum += floor.Gather(g, num_rows, own, round_trip);
          });
        }
      }
      begin(++block_number, settings.rows[which]);
      for (int layer = 0; layer < settings.layers / kBlocks; ++layer) {
        timed(times[which].links, [&] {
          for (int g = 0; g < kGathers; ++g) {
            const auto parts =
                group.Gather({own.data(), settings.Bytes(g, group.rank(), num_rows)});
            Must(parts.status(), "gather");
            for (int rank = 0; rank < settings.ranks; ++rank) {
              if (rank != group.rank()) sum += Touch((*parts)[size_t(rank)]);
            }
          }
        });
      }
    }
  }
  return sum;
}

[[noreturn]] void RunLeaf(const Settings& settings, Board& board, uint8_t* memory, int rank) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  Pin(settings, rank);
  if (!settings.ranks_netns.empty()) {
    const UniqueFd there(open(settings.ranks_netns.c_str(), O_RDONLY | O_CLOEXEC));
    if (setns(there.get(), CLONE_NEWNET) != 0) Must(absl::InternalError("setns"), "--ranks-netns");
  }
  while (board.listening.load(std::memory_order_acquire) == 0) sched_yield();
  auto bell = Bell::Create();
  Must(bell.status(), "bell");
  const auto maker = NewMaker(settings);
  const LinkIdentity peer = Identity();
  const InstanceId self(uint64_t(10 + rank));
  auto link = maker->NewConnector()->Connect(
      {board.address},
      {peer.model_digest, peer.instance, self, LinkId(uint64_t(rank)),
       LinkKeyFor(peer.secret, peer.instance, self)},
      **bell, std::chrono::steady_clock::now() + std::chrono::seconds(20));
  Must(link.status(), "connect");
  LeafRank leaf(rank, settings.ranks, kModel, *std::move(link), **bell);
  Floor floor(settings, board, memory, rank);
  std::vector<Times> times(settings.rows.size());
  RunBlocks(
      settings, leaf, floor,
      [&](int, int) { Must(leaf.AwaitPlan([] { return false; }).status(), "plan"); }, times);
  _exit(0);
}

double Median(std::vector<double>& values) {
  std::nth_element(values.begin(), values.begin() + std::ptrdiff_t(values.size() / 2),
                   values.end());
  return values[values.size() / 2];
}

int Run(const Settings& settings) {
  const auto share = [](size_t bytes) {
    return mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  };
  auto* const board = new (share(sizeof(Board))) Board;
  auto* const memory =
      static_cast<uint8_t*>(share(settings.MaxBytes() * 2 * size_t(settings.ranks)));
  std::vector<pid_t> children;
  for (int rank = 1; rank < settings.ranks; ++rank) {
    children.push_back(fork());
    if (children.back() == 0) RunLeaf(settings, *board, memory, rank);
  }
  Pin(settings, 0);
  auto bell = Bell::Create();
  Must(bell.status(), "bell");
  const SteadyClock clock;
  HubRanks hub(settings.ranks, kModel, **bell, clock, {});
  const auto maker = NewMaker(settings);
  LinkListenerOptions options;
  options.self = Identity();
  auto listener =
      maker->Listen(options, **bell, [&](std::unique_ptr<FrameLink> link, const Hello& hello) {
        hub.Offer(int(hello.link.value()), std::move(link), "a process");
      });
  Must(listener.status(), "listen");
  std::strncpy(board->address, (*listener)->addresses()[0].c_str(), sizeof(board->address) - 1);
  board->listening.store(1, std::memory_order_release);
  while (!hub.Ready().ok()) sched_yield();
  hub.AdoptLinks();

  Floor floor(settings, *board, memory, 0);
  std::vector<Times> times(settings.rows.size());
  RunBlocks(
      settings, hub, floor,
      [&](int block, int num_rows) {
        Must(hub.Begin(StepId(uint64_t(block)), num_rows, {}), "begin");
      },
      times);
  std::printf("%d ranks over %s: hidden %zu, attended %zu, inner %zu, experts %zu\n",
              settings.ranks, settings.tcp ? "tcp" : "shared memory", settings.hidden,
              settings.attended, settings.inner, settings.experts);
  std::printf(
      "| rows | KB of a layer | gathers, us | bare round trips, us | ratio | bare exchanges, us | "
      "ratio |\n"
      "|---|---|---|---|---|---|---|\n");
  for (size_t which = 0; which < settings.rows.size(); ++which) {
    size_t bytes = 0;
    for (int g = 0; g < kGathers; ++g) {
      for (int rank = 0; rank < settings.ranks; ++rank)
        bytes += settings.Bytes(g, rank, size_t(settings.rows[which]));
    }
    const double links = Median(times[which].links);
    const double trip = Median(times[which].round_trip);
    const double exchange = Median(times[which].exchange);
    std::printf("| %d | %.0f | %.1f | %.1f | %.2f | %.1f | %.2f |\n", settings.rows[which],
                double(bytes) / 1024, links, trip, links / trip, exchange, links / exchange);
  }
  std::printf("left out: computing, quantizing, putting rows together\n");
  for (const pid_t child : children) waitpid(child, nullptr, 0);
  return 0;
}

}  // namespace
}  // namespace sheaf

int main(int argc, char** argv) {
  sheaf::Settings settings;
  for (int i = 1; i < argc; ++i) {
    const std::vector<std::string> flag = absl::StrSplit(argv[i], absl::MaxSplits('=', 1));
    const std::string value = flag.size() == 2 ? flag[1] : "";
    int number = 0;
    const bool is_number = absl::SimpleAtoi(value, &number) && number >= 0;
    if (flag[0] == "--transport") {
      settings.tcp = value == "tcp";
    } else if (flag[0] == "--host") {
      settings.host = value;
    } else if (flag[0] == "--ranks-netns") {
      settings.ranks_netns = value;
    } else if (flag[0] == "--rows") {
      settings.rows.clear();
      for (const std::string& part : std::vector<std::string>(absl::StrSplit(value, ','))) {
        if (absl::SimpleAtoi(part, &number) && number > 0) settings.rows.push_back(number);
      }
    } else if (!is_number) {
      std::fprintf(stderr, "gather_bench: what is %s? See the head of its source.\n", argv[i]);
      return 2;
    } else if (flag[0] == "--ranks") {
      settings.ranks = std::clamp(number, 2, sheaf::kMaxRanks);
    } else if (flag[0] == "--layers") {
      settings.layers = std::max(sheaf::kBlocks, number);
    } else if (flag[0] == "--pin") {
      settings.pin = number != 0;
    } else if (flag[0] == "--hidden") {
      settings.hidden = size_t(number);
    } else if (flag[0] == "--attended") {
      settings.attended = size_t(number);
    } else if (flag[0] == "--inner") {
      settings.inner = size_t(number);
    } else if (flag[0] == "--experts") {
      settings.experts = size_t(number);
    }
  }
  return sheaf::Run(settings);
}
