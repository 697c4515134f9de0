#include "tests/cuda/fake_cuda_runtime.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/check.h"

namespace sheaf::testing {
namespace {

constexpr int kPoison = 0xff;  // NaN as float, -1 as integer
constexpr size_t kAlignment = 256;
constexpr uint64_t kMostByChance = 4;

size_t Rounded(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

struct FakeCudaRuntime::Stream {
  std::deque<Operation> operations;
  bool alive = true;
  std::thread::id capturer;  // whose operations become a graph; none: they are enqueued
  std::vector<Operation> captured;
};

struct FakeCudaRuntime::Graph {
  std::vector<Operation> operations;
  bool alive = true;
};

struct FakeCudaRuntime::Event {
  uint64_t recorded = 0;
  uint64_t reached = 0;
  bool alive = true;
};

FakeCudaRuntime::FakeCudaRuntime(const FakeCudaOptions& options)
    : options_(options),
      random_(options.seed),
      lose_at_(options.lose_at),
      lose_with_(options.lose_with) {
  const int memory = memfd_create("fake device memory", MFD_CLOEXEC);
  SHEAF_CHECK(memory >= 0 && ftruncate(memory, static_cast<off_t>(options_.total_bytes)) == 0,
              "memory for a fake device");
  void* const untouchable = mmap(nullptr, options_.total_bytes, PROT_NONE, MAP_SHARED, memory, 0);
  void* const shadow =
      mmap(nullptr, options_.total_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
  SHEAF_CHECK(untouchable != MAP_FAILED && shadow != MAP_FAILED, "address space for a fake device");
  close(memory);
  begin_ = reinterpret_cast<uint64_t>(untouchable);
  shadow_ = static_cast<uint8_t*>(shadow);
}

FakeCudaRuntime::~FakeCudaRuntime() {
  absl::MutexLock lock(&mutex_);
  for (const auto& [at, bytes] : pinned_) std::free(const_cast<uint8_t*>(at));
  munmap(reinterpret_cast<void*>(begin_), options_.total_bytes);
  munmap(shadow_, options_.total_bytes);
}

CudaError FakeCudaRuntime::DriverVersion(int& version) {
  version = options_.driver_version;
  return CudaError::kSuccess;
}

CudaError FakeCudaRuntime::DeviceCount(int& count) {
  count = options_.devices;
  return count > 0 ? CudaError::kSuccess : CudaError::kNoDevice;
}

CudaError FakeCudaRuntime::Facts(int ordinal, CudaDeviceFacts& facts) {
  if (ordinal < 0 || ordinal >= options_.devices) return CudaError::kInvalidDevice;
  facts = {"fake GPU", options_.architecture};
  return CudaError::kSuccess;
}

CudaError FakeCudaRuntime::UseDevice(int ordinal) {
  absl::MutexLock lock(&mutex_);
  if (lost_ != CudaError::kSuccess) return lost_;
  if (ordinal < 0 || ordinal >= options_.devices) return CudaError::kInvalidDevice;
  threads_.insert(std::this_thread::get_id());
  return CudaError::kSuccess;
}

CudaError FakeCudaRuntime::Enter() {
  if (lost_ == CudaError::kSuccess && threads_.count(std::this_thread::get_id()) == 0)
    return Bad("a thread without a device");
  RunByChance();
  return lost_;
}

CudaError FakeCudaRuntime::Bad(const std::string& what) {
  violations_.push_back(what);
  return CudaError::kInvalidValue;
}

CudaError FakeCudaRuntime::MemoryInfo(size_t& free_bytes, size_t& total_bytes) {
  absl::MutexLock lock(&mutex_);
  if (const CudaError error = Enter(); error != CudaError::kSuccess) return error;
  size_t taken = 0;
  for (const auto& [at, bytes] : allocations_) taken += Rounded(bytes);
  free_bytes = options_.free_bytes - std::min(options_.free_bytes, taken);
  total_bytes = options_.total_bytes;
  return CudaError::kSuccess;
}

CudaError FakeCudaRuntime::Allocate(size_t bytes, DeviceAddress& at) {
  absl::MutexLock lock(&mutex_);
  if (const CudaError error = Enter(); error != CudaError::kSuccess) return error;
  size_t taken = 0;
  uint64_t place = begin_;
  bool found = false;
  for (const auto& [begin, size] : allocations_) {
    found = found || begin - place >= Rounded(bytes);
    if (!found) place = begin + Rounded(size);
    taken += Rounded(size);
  }
  if (taken + Rounded(bytes) > options_.free_bytes ||
      place + Rounded(bytes) > begin_ + options_.total_bytes) {
    return CudaError::kMemoryAllocation;
  }
  at = {place};
  allocations_[place] = bytes;
  std::memset(Shadow(at), kPoison, Rounded(bytes));
  return CudaError::kSuccess;
}

CudaError FakeCudaRuntime::Free(DeviceAddress at) {
  absl::MutexLock lock(&mutex_);
  if (const CudaError error = Enter(); error != CudaError::kSuccess) return error;
  const auto found = allocations_.find(at.value);
  if (found == allocations_.end()) return Bad("Free of what is not allocated");
  while (RunOne()) {
  }  // as the real one, it waits for the device
  std::memset(Shadow(at), kPoison, found->second);
  allocations_.erase(found);
  return CudaError::kSuccess;
}

CudaError FakeCudaRuntime::AllocatePinned(size_t bytes, void*& at) {
  absl::MutexLock lock(&mutex_);
  if (const CudaError error = Enter(); error != CudaError::kSuccess) return error;
  at = std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
  if (at == nullptr) return CudaError::kMemoryAllocation;
  std::memset(at, kPoison, bytes);
  pinned_[static_cast<uint8_t*>(at)] = bytes;
  return CudaError::kSuccess;
}

CudaError FakeCudaRuntime::FreePinned(void* at) {
  absl::MutexLock lock(&mutex_);
  if (const CudaError error = Enter(); error != CudaError::kSuccess) return error;
  const auto found = pinned_.find(static_cast<uint8_t*>(at));
  if (found == pinned_.end()) return Bad("FreePinned of what is not pinned");
  while (RunOne()) {
  }
  std::free(at);
  pinned_.erase(found);
  return CudaError::kSuccess;
}

CudaError FakeCudaRuntime::CreateStream(bool, CudaStream& stream) {
  absl::MutexLock lock(&mutex_);
  if (const CudaError error = Enter(); error != CudaError::kSuccess) return error;
  streams_.push_back(std::make_unique<Stream>());
  stream = reinterpret_cast<CudaStream>(streams_.back().get());
  return CudaError::kSuccess;
}

CudaError FakeCudaRuntime::DestroyStream(CudaStream stream) {
  absl::MutexLock lock(&mutex_);
  if (const CudaError error = Enter(); error != CudaError::kSuccess) return error;
  reinterpret_cast<Stream*>(stream)->alive = false;
  return CudaError::kSuccess;
}

CudaError FakeCudaRuntime::Synchronize(CudaStream stream) {
  absl::MutexLock lock(&mutex_);
  if (const CudaError error = Enter(); error != CudaError::kSuccess) return error;
  while (lost_ == CudaError::kSuccess && !reinterpret_cast<Stream*>(stream)->operations.empty()) {
    if (!RunOne()) return Bad("a wait for a stream that nothing will end");
  }
  return lost_;
}

CudaError FakeCudaRuntime::CreateEvent(CudaEvent& event) {
  absl::MutexLock lock(&mutex_);
  if (const CudaError error = Enter(); error != CudaError::kSuccess) return error;
  events_.push_back(std::make_unique<Event>());
  event = reinterpret_cast<CudaEvent>(events_.back().get());
  return CudaError::kSuccess;
}

CudaError FakeCudaRuntime::DestroyEvent(CudaEvent event) {
  absl::MutexLock lock(&mutex_);
  if (const CudaError error = Enter(); error != CudaError::kSuccess) return error;
  reinterpret_cast<Event*>(event)->alive = false;
  return CudaError::kSuccess;
}

CudaError FakeCudaRuntime::Record(CudaEvent event, CudaStream stream) {
  absl::MutexLock lock(&mutex_);
  if (const CudaError error = Enter(); error != CudaError::kSuccess) return error;
  Operation operation;
  operation.record = reinterpret_cast<Event*>(event);
  if (!operation.record->alive) return Bad("an event that is destroyed");
  operation.record_number = ++operation.record->recorded;
  return Enqueue(stream, std::move(operation));
}

CudaError FakeCudaRuntime::WaitFor(CudaStream stream, CudaEvent event) {
  absl::MutexLock lock(&mutex_);
  if (const CudaError error = Enter(); error != CudaError::kSuccess) return error;
  Operation operation;
  operation.wait = reinterpret_cast<Event*>(event);
  operation.wait_number = operation.wait->recorded;
  return Enqueue(stream, std::move(operation));
}

CudaError FakeCudaRuntime::Synchronize(CudaEvent event) {
  absl::MutexLock lock(&mutex_);
  if (const CudaError error = Enter(); error != CudaError::kSuccess) return error;
  const Event& waited = *reinterpret_cast<Event*>(event);
  const uint64_t number = waited.recorded;
  while (lost_ == CudaError::kSuccess && waited.reached < number) {
    if (!RunOne()) return Bad("a wait for an event that nothing will end");
  }
  return lost_;
}

CudaError FakeCudaRuntime::CopyToDevice(DeviceAddress to, const void* pinned, size_t bytes,
                                        CudaStream stream) {
  absl::MutexLock lock(&mutex_);
  if (const CudaError error = Enter(); error != CudaError::kSuccess) return error;
  if (!IsDevice(to, bytes)) return Bad("CopyToDevice outside of an allocation");
  if (!IsPinned(pinned, bytes)) return Bad("CopyToDevice of memory that is not pinned");
  Operation operation;
  operation.body = [this, to, pinned, bytes] { std::memcpy(Shadow(to), pinned, bytes); };
  return Enqueue(stream, std::move(operation));
}

CudaError FakeCudaRuntime::CopyToHost(void* pinned, DeviceAddress from, size_t bytes,
                                      CudaStream stream) {
  absl::MutexLock lock(&mutex_);
  if (const CudaError error = Enter(); error != CudaError::kSuccess) return error;
  if (!IsDevice(from, bytes)) return Bad("CopyToHost outside of an allocation");
  if (!IsPinned(pinned, bytes)) return Bad("CopyToHost to memory that is not pinned");
  Operation operation;
  operation.enqueued = [pinned, bytes] { std::memset(pinned, kPoison, bytes); };
  operation.body = [this, from, pinned, bytes] { std::memcpy(pinned, Shadow(from), bytes); };
  return Enqueue(stream, std::move(operation));
}

CudaError FakeCudaRuntime::BeginCapture(CudaStream stream) {
  absl::MutexLock lock(&mutex_);
  if (const CudaError error = Enter(); error != CudaError::kSuccess) return error;
  Stream& captured = *reinterpret_cast<Stream*>(stream);
  if (captured.capturer != std::thread::id()) return Bad("a stream that is captured twice");
  captured.capturer = std::this_thread::get_id();
  return CudaError::kSuccess;
}

CudaError FakeCudaRuntime::EndCapture(CudaStream stream, CudaGraph& graph) {
  absl::MutexLock lock(&mutex_);
  if (const CudaError error = Enter(); error != CudaError::kSuccess) return error;
  Stream& captured = *reinterpret_cast<Stream*>(stream);
  if (captured.capturer != std::this_thread::get_id()) return Bad("a capture that was not begun");
  captured.capturer = {};
  graphs_.push_back(std::make_unique<Graph>());
  graphs_.back()->operations.swap(captured.captured);
  graph = reinterpret_cast<CudaGraph>(graphs_.back().get());
  return CudaError::kSuccess;
}

CudaError FakeCudaRuntime::LaunchGraph(CudaGraph graph, CudaStream stream) {
  absl::MutexLock lock(&mutex_);
  if (const CudaError error = Enter(); error != CudaError::kSuccess) return error;
  const Graph& launched = *reinterpret_cast<Graph*>(graph);
  if (!launched.alive) return Bad("a graph that is destroyed");
  ++graph_launches_;
  for (const Operation& operation : launched.operations) {
    if (const CudaError error = Enqueue(stream, operation); error != CudaError::kSuccess)
      return error;
  }
  return CudaError::kSuccess;
}

CudaError FakeCudaRuntime::DestroyGraph(CudaGraph graph) {
  absl::MutexLock lock(&mutex_);
  if (const CudaError error = Enter(); error != CudaError::kSuccess) return error;
  Graph& destroyed = *reinterpret_cast<Graph*>(graph);
  if (!destroyed.alive) return Bad("a graph that is destroyed twice");
  destroyed.alive = false;
  return CudaError::kSuccess;
}

std::string FakeCudaRuntime::TextOf(CudaError error) const {
  switch (error) {
    case CudaError::kMemoryAllocation:
      return "out of memory";
    case CudaError::kEccUncorrectable:
      return "uncorrectable ECC error encountered";
    case CudaError::kLaunchFailure:
      return "unspecified launch failure";
    case CudaError::kInvalidValue:
      return "invalid argument";
    default:
      return "some error";
  }
}

CudaError FakeCudaRuntime::Launch(CudaStream stream, std::function<void()> body) {
  absl::MutexLock lock(&mutex_);
  if (const CudaError error = Enter(); error != CudaError::kSuccess) return error;
  Operation operation;
  operation.body = std::move(body);
  return Enqueue(stream, std::move(operation));
}

// Called by bodies, which run with the lock held.
uint8_t* FakeCudaRuntime::Host(DeviceAddress at, size_t bytes) {
  if (IsDevice(at, bytes)) return Shadow(at);
  Bad("a kernel outside of an allocation");
  return nullptr;
}

CudaError FakeCudaRuntime::Enqueue(CudaStream stream, Operation operation) {
  Stream& queue = *reinterpret_cast<Stream*>(stream);
  if (!queue.alive) return Bad("a stream that is destroyed");
  if (queue.capturer == std::this_thread::get_id()) {
    if (operation.record != nullptr || operation.wait != nullptr) return Bad("an event in a graph");
    queue.captured.push_back(std::move(operation));
    return lost_;
  }
  if (queue.capturer != std::thread::id()) return Bad("a stream that another thread captures");
  if (operation.enqueued) operation.enqueued();
  queue.operations.push_back(std::move(operation));
  RunByChance();
  return lost_;
}

bool FakeCudaRuntime::RunOne() {
  if (lost_ != CudaError::kSuccess) return false;
  std::vector<Stream*> ready;
  for (const std::unique_ptr<Stream>& stream : streams_) {
    if (stream->operations.empty()) continue;
    const Operation& next = stream->operations.front();
    if (next.wait == nullptr || next.wait->reached >= next.wait_number)
      ready.push_back(stream.get());
  }
  if (ready.empty()) return false;
  Stream& chosen = *ready[random_() % ready.size()];
  Operation operation = std::move(chosen.operations.front());
  chosen.operations.pop_front();
  if (++operations_ == lose_at_) {
    lost_ = lose_with_;
    return true;
  }
  if (operation.body) operation.body();
  if (operation.record != nullptr)
    operation.record->reached = std::max(operation.record->reached, operation.record_number);
  return true;
}

void FakeCudaRuntime::RunByChance() {
  for (uint64_t left = random_() % (2 * kMostByChance); left > kMostByChance && RunOne(); --left) {
  }
}

bool FakeCudaRuntime::IsDevice(DeviceAddress at, size_t bytes) const {
  auto found = allocations_.upper_bound(at.value);
  if (found == allocations_.begin()) return false;
  --found;
  return at.value + bytes <= found->first + found->second;
}

bool FakeCudaRuntime::IsPinned(const void* at, size_t bytes) const {
  const auto* const begin = static_cast<const uint8_t*>(at);
  auto found = pinned_.upper_bound(begin);
  if (found == pinned_.begin()) return false;
  --found;
  return begin + bytes <= found->first + found->second;
}

void FakeCudaRuntime::LoseAfter(uint64_t operations, CudaError error) {
  absl::MutexLock lock(&mutex_);
  lose_at_ = operations_ + operations;
  lose_with_ = error;
}

std::vector<std::string> FakeCudaRuntime::violations() const {
  absl::MutexLock lock(&mutex_);
  return violations_;
}

uint64_t FakeCudaRuntime::operations() const {
  absl::MutexLock lock(&mutex_);
  return operations_;
}

size_t FakeCudaRuntime::queued() const {
  absl::MutexLock lock(&mutex_);
  size_t operations = 0;
  for (const std::unique_ptr<Stream>& stream : streams_) operations += stream->operations.size();
  return operations;
}

int FakeCudaRuntime::graphs() const {
  absl::MutexLock lock(&mutex_);
  return static_cast<int>(std::count_if(graphs_.begin(), graphs_.end(),
                                        [](const auto& graph) { return graph->alive; }));
}

int FakeCudaRuntime::graph_launches() const {
  absl::MutexLock lock(&mutex_);
  return graph_launches_;
}

size_t FakeCudaRuntime::allocated_bytes() const {
  absl::MutexLock lock(&mutex_);
  size_t bytes = 0;
  for (const auto& [at, size] : allocations_) bytes += size;
  return bytes;
}

size_t FakeCudaRuntime::pinned_bytes() const {
  absl::MutexLock lock(&mutex_);
  size_t bytes = 0;
  for (const auto& [at, size] : pinned_) bytes += size;
  return bytes;
}

}  // namespace sheaf::testing
